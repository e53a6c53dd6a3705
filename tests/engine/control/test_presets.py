import json
from pathlib import Path

import pytest

from engine.control.presets import Presets
from engine.errors import ControlError, UnknownPresetError

STAGE = {
    "pose": "camera",
    "mouth": "tts:audio",
    "expression": "idle",
    "identity": "lena",
    "gains": {"pose": 1.2},
    "pose_mode": "relative",
    "crossfade_ms": 300,
    "background": {"colour": "#20a060"},
}


@pytest.fixture
def presets(tmp_path: Path) -> Presets:
    return Presets(tmp_path / "presets")


def test_a_preset_comes_back_as_it_was_saved(presets: Presets) -> None:
    assert presets.names() == []
    presets.save("stage left", STAGE)
    presets.save("idle", {"pose": "idle"})
    assert presets.names() == ["idle", "stage left"]
    assert presets.load("stage left") == STAGE
    presets.delete("idle")
    assert presets.names() == ["stage left"]


def test_a_saved_preset_replaces_its_predecessor_whole(presets: Presets, tmp_path: Path) -> None:
    presets.save("stage", STAGE)
    presets.save("stage", {"pose": "clip"})
    assert presets.load("stage") == {"pose": "clip"}
    assert [path.name for path in (tmp_path / "presets").iterdir()] == ["stage.json"]


def test_an_unknown_preset_names_those_that_there_are(presets: Presets) -> None:
    presets.save("stage", STAGE)
    with pytest.raises(UnknownPresetError, match="there are: stage"):
        presets.load("stag")
    with pytest.raises(UnknownPresetError):
        presets.delete("stag")


@pytest.mark.parametrize("name", ["", "..", "../secret", "a/b", "a.json", ".hidden", "x" * 65, "a\n"])
def test_a_name_that_leads_elsewhere_is_refused(presets: Presets, name: str) -> None:
    for act in (presets.load, presets.delete, lambda n: presets.save(n, STAGE)):
        with pytest.raises(ControlError, match="name for a preset"):
            act(name)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ([], "object"),
        ({"nose": "camera"}, "nose.*gains"),
        ({"calibrate": True}, "calibrate"),
        ({"pose": 3}, "pose must be a name"),
        ({"pose": "a/b"}, "cannot be fed"),
        ({"pose": "camera:audio"}, "cannot be fed"),
        ({"identity": ["lena"]}, "identity must be a name"),
        ({"gains": {"pose": 9}}, "0 to 2"),
        ({"pose_mode": "sideways"}, "absolute"),
        ({"crossfade_ms": -1}, "5000"),
        ({"background": {"path": "/etc/passwd"}}, "background"),
    ],
)
def test_a_preset_that_no_session_could_take_is_neither_saved_nor_loaded(
    presets: Presets, tmp_path: Path, changes: object, named: str
) -> None:
    with pytest.raises(ControlError, match=named):
        presets.save("bad", changes)
    assert presets.names() == []
    (tmp_path / "presets").mkdir(exist_ok=True)
    (tmp_path / "presets" / "bad.json").write_text(json.dumps(changes))
    with pytest.raises(ControlError, match=named):
        presets.load("bad")


def test_a_file_that_is_not_json_is_one_clear_error(presets: Presets, tmp_path: Path) -> None:
    presets.save("stage", STAGE)
    (tmp_path / "presets" / "stage.json").write_bytes(b"\xff{")
    with pytest.raises(ControlError, match="'stage' is not JSON"):
        presets.load("stage")


def test_what_a_message_says_goes_before_what_its_preset_says(presets: Presets) -> None:
    presets.save("stage", {"pose": "camera", "mouth": "clip"})
    assert presets.expand({"preset": "stage", "mouth": "idle"}) == {"pose": "camera", "mouth": "idle"}
    assert presets.expand({"mouth": "idle"}) == {"mouth": "idle"}
    with pytest.raises(ControlError, match="preset must be a name"):
        presets.expand({"preset": 3})
