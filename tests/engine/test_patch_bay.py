import numpy as np
import pytest

from engine.codes import Code
from engine.errors import UnknownSourceError
from engine.patch_bay import IDLE as IDLE_ROUTE
from engine.patch_bay import PatchBay, Route, SocketFade, between, check_name

MS = 1_000_000
IDLE: Code = np.zeros(4, np.float32)
CAMERA: Code = np.full(4, 1, np.float32)
CLIP: Code = np.full(4, 2, np.float32)


def fade() -> SocketFade:
    return SocketFade(crossfade_ms=200, hold_ms=400, ease_ms=600)


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
    assert bay.voice_source == "tts"
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


def test_a_repatched_socket_crosses_over_in_200_ms() -> None:
    socket = fade()
    for time_ms in (0, 40, 400):
        socket.step("camera", CAMERA, IDLE, time_ms * MS)
    shares = [float(socket.step("clip", CLIP, IDLE, (440 + t) * MS)[0]) for t in range(0, 241, 40)]
    assert shares[0] == pytest.approx(1)
    assert shares == sorted(shares)
    assert 1.3 < shares[2] < 1.7
    assert shares[-1] == 2


def test_a_lost_face_is_held_and_then_eases_to_idle() -> None:
    socket = fade()
    for time_ms in range(0, 400, 40):
        socket.step("camera", CAMERA, IDLE, time_ms * MS)
    lost = {t: float(socket.step("camera", None, IDLE, t * MS)[0]) for t in range(400, 1600, 40)}
    assert lost[760] == 1
    assert 0.2 < lost[1080] < 0.9
    assert lost[1560] == 0


def test_a_face_that_comes_back_fades_in_from_idle() -> None:
    socket = fade()
    for time_ms in (0, 40, 80):
        assert socket.step("camera", None, IDLE, time_ms * MS)[0] == 0
    assert socket.step("camera", CAMERA, IDLE, 120 * MS)[0] == 0
    assert 0 < socket.step("camera", CAMERA, IDLE, 220 * MS)[0] < 1
    assert socket.step("camera", CAMERA, IDLE, 320 * MS)[0] == 1


def test_a_patch_during_a_fade_starts_from_what_is_shown() -> None:
    socket = fade()
    socket.step("idle", None, IDLE, 0)
    socket.step("clip", CLIP, IDLE, 40 * MS)
    shown = socket.step("clip", CLIP, IDLE, 140 * MS)
    assert 0 < shown[0] < 2
    assert np.allclose(socket.step("idle", None, IDLE, 141 * MS), shown)


def test_codes_of_one_length_keep_it_on_the_way() -> None:
    start, end = np.array([16, 0], np.float32), np.array([0, 16], np.float32)
    for share in (0, 0.25, 0.5, 1):
        assert np.linalg.norm(between(start, end, share)) == pytest.approx(16, rel=1e-5)
