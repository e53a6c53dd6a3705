from collections import Counter

import pytest

from clients.bench.switch import JUDGED, Show, Step, _switch, script

FILM = {"kind": "file", "path": "film.mp4"}


def test_every_kind_comes_equally_often_but_for_what_leaves_and_comes_back() -> None:
    counts = Counter(step.kind for step in script(4, ("clip", "film"), ["lena", "zola"], FILM))
    assert set(JUDGED) < set(counts)
    assert {kind for kind, count in counts.items() if count == 2} == {"source leaves", "source comes back"}
    assert set(counts.values()) == {2, 4}


def test_every_step_changes_what_was_set_before() -> None:
    settings: dict[str, object] = {
        "pose": "clip",
        "expression": "clip",
        "mouth": "clip",
        "pose_mode": "absolute",
    }
    settings |= {"identity": "adrian", "gains": None}
    for step in script(4, ("clip", "film"), ["lena", "zola"], FILM):
        body = dict(step.body or {})
        if step.path.startswith("/presets/"):
            person = "film" if step.path.endswith("second") else "clip"
            body = dict.fromkeys(("pose", "expression", "mouth"), person)
            body |= {"identity": step.path, "pose_mode": "absolute", "gains": None}
        elif step.kind == "nothing" or step.method != "PATCH":
            continue
        assert any(settings[key] != value for key, value in body.items()), step
        settings |= body


def test_photos_have_no_voice() -> None:
    kinds = {step.kind for step in script(1, ("photo1", "photo2"), ["lena"], {"kind": "still"})}
    assert "mouth by voice" not in kinds


def told(tick_ms: float, now_ms: float) -> dict[str, float]:
    return {"tick_ms": tick_ms, "now_ms": now_ms}


def test_a_switch_is_looked_for_from_the_first_picture_that_can_show_it() -> None:
    patch = Step("pose", "PATCH", "", {"pose": "film"})
    switches = [_switch("moving", patch, told(960, 998), told(1000, 1003), 25.0)]
    show = Show(ticks_s=[0.92, 0.96, 1.0, 1.04, 1.08, 1.56, 1.60, 1.64], switches=switches)
    assert [list(window) for window in show.windows("moving")["pose"]] == [[3, 4, 5, 6]]
    assert show.windows("still") == {}


def test_a_face_may_pass_into_the_next_with_a_picture_that_was_begun_already() -> None:
    step = Step("identity", "PATCH", "", {"identity": "lena"})
    switch = _switch("moving", step, told(960, 998), told(1000, 1003), 25.0)
    assert switch.begun_s == pytest.approx(0.96)
    assert switch.until_s == pytest.approx(2.003)


def test_a_source_may_be_gone_from_the_moment_of_asking() -> None:
    step = Step("source leaves", "DELETE", "/sources/film")
    assert _switch("moving", step, told(960, 998), told(1000, 1003), 25.0).begun_s == pytest.approx(0.96)
