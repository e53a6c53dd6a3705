"""A window with the avatar."""

from __future__ import annotations

import os
import sys
import threading
from types import TracebackType
from typing import Final, Self

import cv2
import numpy as np

from engine.media import AudioChunk
from engine.sinks.sink import AvatarFrame

SIDE_PX: Final = 512
WAIT_S: Final = 0.1
QUIT_KEYS: Final = (27, ord("q"))


def can_show_windows() -> bool:
    """OpenCV was built with windows, and there is a screen. (Its Qt ends the program where there is none.)"""
    gui = next(
        (line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), ""
    )
    has_gui = bool(gui) and "NONE" not in gui
    has_screen = sys.platform != "linux" or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    return has_gui and has_screen


class PreviewSink:
    """Room for the newest picture, between the event loop and the window's thread."""

    def __init__(self) -> None:
        self._newest: AvatarFrame | None = None
        self._news = threading.Condition()

    def show(self, frame: AvatarFrame) -> None:
        with self._news:
            self._newest = frame
            self._news.notify()

    def play(self, chunk: AudioChunk) -> None:
        """A window is silent."""

    async def close(self) -> None: ...

    def take(self, timeout_s: float) -> AvatarFrame | None:
        """The newest picture, waiting for one a while."""
        with self._news:
            self._news.wait_for(lambda: self._newest is not None, timeout_s)
            frame, self._newest = self._newest, None
            return frame


class PreviewWindow:
    """For one thread, on macOS the main one. Escape, q or its button close it."""

    def __init__(self, title: str) -> None:
        self._title = title
        self.is_open = True

    def __enter__(self) -> Self:
        cv2.namedWindow(self._title, cv2.WINDOW_NORMAL)
        cv2.resizeWindow(self._title, SIDE_PX, SIDE_PX)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cv2.destroyAllWindows()

    def show_newest(self, preview: PreviewSink) -> None:
        frame = preview.take(WAIT_S)
        if frame is not None:
            cv2.imshow(self._title, np.asarray(cv2.cvtColor(frame.yuv420p, cv2.COLOR_YUV2BGR_I420), np.uint8))
        is_quit = cv2.waitKey(1) & 0xFF in QUIT_KEYS
        is_closed = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        self.is_open = not (is_quit or is_closed)
