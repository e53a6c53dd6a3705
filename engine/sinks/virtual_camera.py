"""The avatar as a camera of this machine, for any program that takes one."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import threading
from typing import Any, Final

import cv2
import numpy as np

from engine.compositor import Background
from engine.errors import DeviceMissingError
from engine.media import AudioChunk
from engine.metrics import PerformanceMetrics
from engine.sinks.sink import AvatarFrame, Image

logger = logging.getLogger(__name__)

HOW_TO_GET_ONE: Final = {
    "linux": "run: apt-get install v4l2loopback-dkms && modprobe v4l2loopback exclusive_caps=1",
    "darwin": "install OBS (https://obsproject.com), start its virtual camera once and close it again",
    "win32": "install OBS (https://obsproject.com), which brings a virtual camera",
}
SIDE_BLUR: Final = 0.12
"""Where the camera is wider than the avatar, its own picture fills the sides, this soft."""
JOIN_S: Final = 2.0


class VirtualCameraSink:
    """Shows the newest picture in a thread of its own; the driver may block it, the avatar goes on."""

    kind = "virtual_camera"

    def __init__(
        self, device: str | None, width_px: int, height_px: int, fps: float, metrics: PerformanceMetrics
    ) -> None:
        """device: as pyvirtualcam calls it; None is the first that is free.

        Raises DeviceMissingError saying what to install.
        """
        self._camera = _open_camera(device, width_px, height_px, fps)
        self._metrics = metrics
        self._size_px = width_px, height_px
        self._newest: AvatarFrame | None = None
        self._news = threading.Condition()
        self._is_closing = False
        self.problem: str | None = None
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="virtual camera", daemon=True)
        self._thread.start()

    @property
    def device(self) -> str:
        return str(self._camera.device)

    def show(self, frame: AvatarFrame) -> None:
        with self._news:
            if self._newest is not None:
                self.dropped += 1
                place = f"sink_{self.kind}"
                self._metrics.dropped[place] = self._metrics.dropped.get(place, 0) + 1
            self._newest = frame
            self._news.notify()

    def play(self, chunk: AudioChunk) -> None:
        """A camera has no sound: that is the virtual microphone's."""

    async def close(self) -> None:
        with self._news:
            self._is_closing = True
            self._news.notify()
        await asyncio.to_thread(self._thread.join, JOIN_S)

    def _run(self) -> None:
        try:
            while (frame := self._next()) is not None:
                image_HWC = cv2.cvtColor(frame.yuv420p, cv2.COLOR_YUV2RGB_I420)
                self._camera.send(fitted(np.asarray(image_HWC, np.uint8), *self._size_px))
        except (RuntimeError, OSError, ValueError) as error:
            self.problem = f"The virtual camera {self.device} takes no more pictures: {error}."
            logger.warning("%s", self.problem)
        finally:
            self._camera.close()

    def _next(self) -> AvatarFrame | None:
        with self._news:
            self._news.wait_for(lambda: self._newest is not None or self._is_closing)
            frame, self._newest = self._newest, None
            return None if self._is_closing else frame


def fitted(image_HWC: Image, width_px: int, height_px: int) -> Image:
    """(height, width, 3): all of the picture as large as fits, amid a soft enlargement of itself."""
    scale = min(width_px / image_HWC.shape[1], height_px / image_HWC.shape[0])
    width, height = round(image_HWC.shape[1] * scale), round(image_HWC.shape[0] * scale)
    picture = cv2.resize(image_HWC, (width, height), interpolation=cv2.INTER_LINEAR)
    if (width, height) == (width_px, height_px):
        return np.asarray(picture, np.uint8)
    canvas = Background(image_HWC, SIDE_BLUR).filling(height_px, width_px)
    top, left = (height_px - height) // 2, (width_px - width) // 2
    canvas[top : top + height, left : left + width] = picture
    return canvas


def _open_camera(device: str | None, width_px: int, height_px: int, fps: float) -> Any:
    try:
        pyvirtualcam = importlib.import_module("pyvirtualcam")
    except ImportError as error:
        raise DeviceMissingError(
            "A virtual camera needs pyvirtualcam. Run: pip install 'gcavt-live[desktop]'"
        ) from error
    try:
        return pyvirtualcam.Camera(width=width_px, height=height_px, fps=fps, device=device)
    except RuntimeError as error:
        wanted = f"virtual camera {device}" if device else "virtual camera"
        how = HOW_TO_GET_ONE.get(sys.platform, "see pyvirtualcam's documentation")
        raise DeviceMissingError(f"There is no {wanted} to show the avatar on; {how}.") from error
