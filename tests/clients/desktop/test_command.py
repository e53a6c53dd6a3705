from __future__ import annotations

import argparse
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from clients.cli import main
from clients.desktop.command import Plan, add_arguments, plan_from
from clients.desktop.preview import PreviewSink
from engine.errors import BadDescriptionError, BadMediaError, DeviceMissingError
from engine.media_files import MediaFile, pictures_at_25_fps
from tests.bundles import astronaut
from tests.engine.media_on_the_fly import avatar_frame


def plan(*words: str) -> Plan:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return plan_from(parser.parse_args(list(words)))


def test_webcam_and_microphone_go_to_the_virtual_camera_unless_told_otherwise() -> None:
    found = plan("--no-preview")
    assert found.sources == {
        "camera": {"kind": "webcam", "device": None},
        "mic": {"kind": "microphone", "device": None},
    }
    assert [sink["kind"] for sink in found.sinks] == ["virtual_camera"]
    assert found.changes == {"pose": "camera", "expression": "camera", "mouth": "camera"}


def test_files_and_addresses_take_the_place_of_devices() -> None:
    found = plan(
        "--no-preview", "--video", "me.mp4", "--microphone", "none", "--out", "a.mov", "--alpha", "--send",
        "https://server/whip/room", "--token", "key", "--background", "#204060", "--mouth", "idle"
    )  # fmt: skip
    assert found.sources == {"camera": {"kind": "file", "path": "me.mp4"}}
    assert [sink["kind"] for sink in found.sinks] == ["file", "whip"]
    assert found.sinks[0]["alpha"] is True and found.sinks[1]["token"] == "key"
    assert found.changes["background"] == {"colour": "#204060"}
    assert found.changes["mouth"] == "idle"


@pytest.mark.parametrize(
    ("words", "error", "complaint"),
    [
        (["--size", "big"], BadDescriptionError, "like 1280x720"),
        (["--send", "ftp://x"], BadDescriptionError, "--send takes an address"),
        (["--fps", "200"], BadDescriptionError, "fps must be 1 to 60"),
        (["--identity", "nobody.jpg"], BadMediaError, "neither a picture nor one of"),
        (["--background", "blue"], BadMediaError, "neither a colour"),
    ],
)
def test_an_option_that_cannot_be_is_named(words: list[str], error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=complaint):
        plan("--no-preview", *words)


def test_a_preview_needs_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.desktop.command.can_show_windows", lambda: False)
    assert plan().shows_preview is False
    with pytest.raises(DeviceMissingError, match="no screen"):
        plan("--preview")


def test_the_preview_keeps_the_newest_picture_only() -> None:
    sink = PreviewSink()
    for tick_ns in (1, 2, 3):
        sink.show(avatar_frame(tick_ns))
    taken = sink.take(0)
    assert taken is not None and taken.tick_ns == 3
    assert sink.take(0) is None


def test_the_devices_of_this_machine_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["desktop", "--list"]) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert titles == ["webcams (--webcam):", "microphones (--microphone):", "sound outputs (--speaker):"]


def test_a_file_drives_the_shipped_avatar_into_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, out = tmp_path / "clip.mp4", tmp_path / "out.mp4"
    write_face(clip)
    words = ["desktop", "--no-preview", "--video", str(clip), "--microphone", "none", "--out", str(out)]
    words += ["--background", "#2040a0", "--threads", "1"]
    assert main([*words, "--seconds", "6"]) == 0
    assert "pictures; from capture to picture p50" in capsys.readouterr().out
    media = MediaFile.probe(out)
    pictures = list(pictures_at_25_fps(media))
    assert pictures[0].shape == (256, 256, 3) and media.has_sound
    assert np.abs(np.median(pictures[-1][:8], axis=(0, 1)) - (0x20, 0x40, 0xA0)).max() < 12


def write_face(path: Path) -> None:
    photo = np.asarray(cv2.resize(astronaut(), (256, 256), interpolation=cv2.INTER_AREA), np.uint8)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 256
        video.pix_fmt = "yuv420p"
        for _ in range(10):
            container.mux(video.encode(av.VideoFrame.from_ndarray(photo, format="rgb24")))
        container.mux(video.encode(None))
