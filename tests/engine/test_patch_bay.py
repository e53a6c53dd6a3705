import pytest

from engine.errors import ControlError, UnknownSourceError
from engine.patch_bay import IDLE as IDLE_ROUTE
from engine.patch_bay import Gains, PatchBay, Route, check_name


def test_patching_changes_only_the_named_sockets() -> None:
    bay = PatchBay().patched({"pose": "camera", "mouth": "microphone"})
    assert bay == PatchBay(pose=Route("camera"), mouth=Route("camera", is_sound=True))
    assert bay.sockets_fed_by("camera") == {"pose"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"pose": "microphone"}, "camera, clip, idle"),
        ({"mouth": "radio"}, "camera, microphone, clip, idle"),
        ({"mouth": ["camera"]}, "choices"),
        ({"nose": "camera"}, "identity, pose, expression, mouth"),
    ],
)
def test_an_impossible_patch_names_the_choices(changes: dict[str, object], named: str) -> None:
    with pytest.raises(UnknownSourceError, match=named):
        PatchBay().patched(changes)


@pytest.mark.parametrize("text", ["camera", "microphone", "clip:audio", "idle", "tts:audio", "my-cam.2"])
def test_a_route_reads_back_as_it_was_written(text: str) -> None:
    assert str(Route.parse(text)) == text


def test_the_microphone_is_the_sound_of_the_camera() -> None:
    assert str(Route.parse("camera:audio")) == "microphone"


def test_a_connected_source_feeds_what_it_has_media_for() -> None:
    connected = {
        "tts": {"video": False, "audio": True},
        "guest": {"video": True, "audio": True},
        "photo": {"video": True, "audio": False},
    }
    bay = PatchBay().patched({"pose": "photo", "expression": "guest", "mouth": "tts:audio"}, connected)
    assert bay.sockets_fed_by("guest") == {"expression"}
    assert bay.chain("mouth") == (Route("tts", is_sound=True),)
    for impossible in ({"pose": "tts"}, {"pose": "guest:audio"}, {"mouth": "photo:audio"}, {"mouth": "tts"}):
        with pytest.raises(UnknownSourceError, match="guest"):
            PatchBay().patched(impossible, connected)


def test_the_mouth_decides_which_moment_a_picture_belongs_to() -> None:
    assert PatchBay().leading == IDLE_ROUTE
    assert PatchBay().patched({"pose": "clip"}).leading == Route("clip")
    assert str(PatchBay().patched({"pose": "clip", "mouth": "microphone"}).leading) == "microphone"


@pytest.mark.parametrize("name", ["idle", "microphone", "clip", "a:audio", "", "a b", "x" * 33, "../x"])
def test_a_name_that_would_confuse_is_refused(name: str) -> None:
    with pytest.raises(UnknownSourceError, match="name"):
        check_name(name)


def test_a_seen_mouth_falls_back_to_the_heard_one_and_nothing_else_falls_back() -> None:
    bay = PatchBay().patched({"pose": "camera", "mouth": "camera"})
    assert list(map(str, bay.chain("mouth"))) == ["camera", "microphone"]
    assert list(map(str, bay.chain("pose"))) == ["camera"]
    assert bay.chain("expression") == ()


def test_settings_are_patched_one_by_one() -> None:
    bay = PatchBay().patched({"gains": {"pose": 1.2}, "pose_mode": "relative", "crossfade_ms": 80})
    bay = bay.patched({"gains": {"mouth": 0}})
    assert bay == PatchBay(gains=Gains(pose=1.2, mouth=0.0), pose_mode="relative", crossfade_ms=80)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"gains": 2}, "gains"),
        ({"gains": {"nose": 1}}, "pose, expression, mouth"),
        ({"gains": {"pose": 2.1}}, "0 to 2"),
        ({"gains": {"pose": float("nan")}}, "0 to 2"),
        ({"gains": {"pose": True}}, "0 to 2"),
        ({"gains": {"pose": "1"}}, "0 to 2"),
        ({"pose_mode": "sideways"}, "absolute or relative"),
        ({"pose_mode": None}, "absolute or relative"),
        ({"crossfade_ms": -1}, "0 to 5000"),
        ({"crossfade_ms": "200"}, "0 to 5000"),
        ({"gain": {"pose": 1}}, "gains"),
    ],
)
def test_a_setting_out_of_range_says_what_the_range_is(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ControlError, match=named):
        PatchBay().patched(changes)
