"""Ways to share the cores, played for real with a tiny model."""

from __future__ import annotations

import argparse
import json

import pytest

from clients.bench import model as bench
from clients.bench import streams
from clients.bench.streams import report, stream_rows
from engine.bundle import Bundle
from tests.bundles import TinyBundles

FIGURES = ("wall_p50_ms", "wall_p95_ms", "wall_p99_ms", "cpu_ms", "fps")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "TRIAL_TICKS", 3)
    monkeypatch.setattr(streams, "SESSIONS", (1, 2))


def test_every_choice_is_played_by_sound_and_by_video(tiny_bundles: TinyBundles) -> None:
    bundle = Bundle.open(tiny_bundles.path("edit_repose"))
    names = ["one thread each", "two pictures at once", "encoders at once and two draw"]
    rows = stream_rows(bundle, names, bench.PATHS, rounds=1)
    cases = {(row["choice"], row["path"], row["sessions"]) for row in rows}
    assert len(rows) == len(cases) == len(names) * 2 * 2
    assert all(row[figure] > 0 for row in rows for figure in FIGURES)
    assert "by video, two pictures at once" in report(rows)


def test_a_choice_that_is_none_is_named(tiny_bundles: TinyBundles) -> None:
    bundle = Bundle.open(tiny_bundles.path("edit_repose"))
    with pytest.raises(ValueError, match="unknown choice 'all'; there are: one thread each, "):
        stream_rows(bundle, ["all"], bench.PATHS, rounds=1)


def test_the_bench_takes_choices_and_ends_with_json(
    tiny_bundles: TinyBundles, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    path = str(tiny_bundles.path("edit_repose"))
    assert bench.run(parser.parse_args([path, "--rounds", "1", "--streams", "one thread each"])) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["bench"] == "streams"
    assert {row["choice"] for row in line["rows"]} == {"one thread each"}
