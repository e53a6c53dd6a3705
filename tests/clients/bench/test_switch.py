from collections import Counter

from clients.bench.switch import JUDGED, script

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
