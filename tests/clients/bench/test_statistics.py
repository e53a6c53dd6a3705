import json
import math
from pathlib import Path

import cv2

from clients.bench.overload import recovery_ms
from clients.bench.report import json_line
from clients.bench.statistics import gaps_ms, medians, percentiles, plot_over_time, ratio, within


def test_percentiles_are_named_by_what_they_are_of() -> None:
    found = percentiles(list(range(101)), "video")
    assert found == {"video_p50_ms": 50, "video_p95_ms": 95, "video_p99_ms": 99}


def test_what_was_not_measured_is_null_in_the_json_line() -> None:
    nothing = percentiles([], "audio")
    assert all(math.isnan(value) for value in nothing.values())
    line = json.loads(json_line("x", {"ours": nothing, "runs": [nothing, 1]}))
    assert line["ours"]["audio_p50_ms"] is None
    assert line["runs"][0]["audio_p99_ms"] is None


def test_medians_are_taken_key_by_key() -> None:
    assert medians([{"a": 1.0, "b": 9.0}, {"a": 3.0, "b": 8.0}, {"a": 100.0, "b": 7.0}]) == {
        "a": 3.0,
        "b": 8.0,
    }
    assert ratio({"a": 42.0}, {"a": 4.0}, "a") == 10.5


def test_gaps_are_between_neighbours_within_a_stretch() -> None:
    points = [[0.0, 5.0], [0.04, 5.0], [0.34, 5.0], [9.0, 5.0]]
    assert gaps_ms(within(points, 0, 1)).round().tolist() == [40, 300]


def test_recovery_lasts_until_three_pictures_in_a_row_are_near_what_is_normal_later() -> None:
    points = [(10 + 0.04 * i, 200.0 if i < 10 and i != 4 else 30.0) for i in range(100)]
    assert recovery_ms(points, since_s=10) == 400
    assert math.isnan(recovery_ms([], since_s=10))


def test_a_plot_has_a_panel_for_each_measure(tmp_path: Path) -> None:
    lines = {"ours": [(0.0, 5.0), (1.0, 6.0)], "stock": [(0.0, 50.0)]}
    plot_over_time(tmp_path / "one.png", "Title", {"picture": lines})
    plot_over_time(
        tmp_path / "two.png", "Title", {"picture": lines, "sound": lines}, shaded=(0, 1), is_log=True
    )
    one, two = cv2.imread(str(tmp_path / "one.png")), cv2.imread(str(tmp_path / "two.png"))
    assert one is not None and two is not None
    assert two.shape[0] > one.shape[0] and one.min() < 100
