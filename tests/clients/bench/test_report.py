import json
from collections import namedtuple

import numpy as np
import pytest

from clients.bench import report
from clients.bench.headless import Seen
from clients.bench.live import delivered
from clients.bench.report import json_line, table


def test_a_table_lines_its_columns_up() -> None:
    assert table(["stage", "ms"], [["track", 9.5], ["generate", 120]]).splitlines() == [
        "stage      ms",
        "--------  ---",
        "track     9.5",
        "generate  120",
    ]


def test_the_json_line_names_the_machine_and_the_versions() -> None:
    values = json.loads(json_line("live", {"fps": 25.0}))
    assert (values["bench"], values["fps"]) == ("live", 25.0)
    assert values["machine"]["cores"] >= 1
    assert "numpy" in values["versions"]


def test_time_that_the_host_took_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    times = namedtuple("times", "user idle steal")
    monkeypatch.setattr(report, "_AT_START", times(10.0, 20.0, 1.0))
    monkeypatch.setattr("psutil.cpu_times", lambda: times(40.0, 80.0, 11.0))
    assert report.machine()["stolen_percent"] == 10.0


def test_where_no_host_is_known_it_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    times = namedtuple("times", "user idle")
    monkeypatch.setattr(report, "_AT_START", times(10.0, 20.0))
    monkeypatch.setattr("psutil.cpu_times", lambda: times(40.0, 80.0))
    assert json.loads(json_line("live", {}))["machine"]["stolen_percent"] is None


def watched(latency_s: float, growth: float = 0.0, skip: tuple[int, ...] = ()) -> Seen:
    """25 fps over 60 s; `growth`: how much later each second of media arrives than the one before."""
    indices = [i for i in range(1500) if i not in skip]
    media_s = [i / 25 for i in indices]
    arrivals_s = [100 + latency_s + t * (1 + growth) for t in media_s]
    return Seen(arrivals_s, media_s, [1.0] * len(indices), 10)


def test_a_steady_stream_has_no_gap_and_no_drift() -> None:
    result = delivered(watched(0.1), 100, 160)
    assert result["fps"] == pytest.approx(25, abs=0.1)
    assert result["max_gap_ms"] == pytest.approx(40, abs=0.1)
    assert result["drift_ms"] == pytest.approx(0, abs=0.1)


def test_lost_pictures_show_as_gaps() -> None:
    result = delivered(watched(0.1, skip=(500, 501, 502, 503)), 100, 160)
    assert result["gaps_over_ms"] == {"100": 1, "200": 0, "500": 0}
    assert result["max_gap_ms"] == pytest.approx(200, abs=0.1)


def test_latency_that_accumulates_shows_as_drift() -> None:
    result = delivered(watched(0.1, growth=0.01), 100, 160)
    assert result["drift_ms"] == pytest.approx(1000 * 0.01 * 48, rel=0.1)


def test_a_stream_that_never_came_is_zero_pictures_a_second() -> None:
    assert delivered(Seen(), 0, 10)["fps"] == 0
    assert np.isfinite(delivered(watched(0.1), 100, 160)["fps"])
