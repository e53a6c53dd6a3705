"""What a webcam makes of the light it gets, frame after frame.

One `Webcam` is one camera in one room: its sharpness, its noise and its codec stay, while exposure hunts, the
white balance wanders, and mains light rolls through the picture in dim rooms. Geometry is left alone, so that
the truth of the frame stays true. `gcavt.augmentation` has the single-picture pieces, for training inputs.

RGB uint8 HWC in and out.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gcavt.augmentation import blur, jpeg, lower_resolution, sensor_noise, sharpen

Image = NDArray[np.uint8]

LENS_SIGMA_PX = 0.6

_GREY = 0.42
"""Mean brightness, of 1, at which auto-exposure aims."""
_GAMMA = 2.2


def through_lens(picture: Image) -> Image:
    """A render, or its alpha (H, W), as a good lens draws it: a Gaussian of 0.6 px.

    Renders are sharper than any picture of the world: strands and cloth alias, and shimmer when they move.
    """
    return np.asarray(
        cv2.GaussianBlur(picture, (0, 0), LENS_SIGMA_PX, borderType=cv2.BORDER_REFLECT_101), np.uint8
    )


@dataclass(frozen=True, kw_only=True)
class WebcamConfig:
    """One camera in one room."""

    resolution: float
    """Share of the picture's width in pixels that the sensor delivers."""
    defocus_sigma_px: float
    sharpening: float
    """Of the camera's own sharpening; 0 is none."""
    shot_noise: float
    """Standard deviation at full brightness, of 1; it falls with the root of the brightness."""
    read_noise: float
    jpeg_quality: int
    light_stops: float
    """Light in the room against what the renderer gave; auto-exposure makes up for most of it."""
    exposure_wander_stops: float
    red_gain: float
    blue_gain: float
    white_balance_wander: float
    contrast: float
    """Exponent on the coded values: above 1 is darker in the middle."""
    flicker: float
    """Depth of the bands that mains light leaves on a rolling shutter; 0 in daylight."""
    flicker_rows: float
    """Bands per picture height."""
    flicker_per_frame: float
    """By how many bands they move on from one frame to the next."""
    ghosting: float
    """Share of the previous frame that temporal noise reduction leaves in this one."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> WebcamConfig:
        """A camera from the drawer: one in three in a dim room, noisy, flickering and smeared."""
        is_dim = rng.random() < 0.33
        return cls(
            resolution=float(rng.uniform(0.5, 0.8) if is_dim else rng.uniform(0.65, 1.0)),
            defocus_sigma_px=float(rng.uniform(0.0, 0.9)),
            sharpening=float(rng.uniform(0.0, 0.8)),
            shot_noise=float(rng.uniform(0.02, 0.05) if is_dim else rng.uniform(0.003, 0.02)),
            read_noise=float(rng.uniform(0.008, 0.025) if is_dim else rng.uniform(0.001, 0.008)),
            jpeg_quality=int(rng.integers(40, 75) if is_dim else rng.integers(60, 95)),
            light_stops=float(rng.uniform(-2.0, -0.8) if is_dim else rng.uniform(-0.6, 0.6)),
            exposure_wander_stops=float(rng.uniform(0.02, 0.2)),
            red_gain=float(rng.uniform(0.9, 1.14)),
            blue_gain=float(rng.uniform(0.86, 1.1)),
            white_balance_wander=float(rng.uniform(0.0, 0.025)),
            contrast=float(rng.uniform(0.85, 1.18)),
            flicker=float(rng.uniform(0.02, 0.10)) if is_dim else 0.0,
            flicker_rows=float(rng.uniform(1.5, 4.0)),
            flicker_per_frame=float(rng.uniform(-0.25, 0.25)),
            ghosting=float(rng.uniform(0.1, 0.3) if is_dim else rng.uniform(0.0, 0.08)),
        )


class Webcam:
    """Films frames in order; exposure, colour and the previous frame are its state."""

    def __init__(self, config: WebcamConfig, rng: np.random.Generator) -> None:
        self.config = config
        self._rng = rng
        self._stops = 0.0
        self._wander = np.zeros(3)
        self._frames = 0
        self._previous: Image | None = None

    def film(self, image: Image) -> Image:
        """The next frame as the camera delivers it, same size."""
        config = self.config
        image = lower_resolution(image, config.resolution)
        image = blur(image, config.defocus_sigma_px)
        image = self._exposed(image)
        image = sensor_noise(image, self._rng, config.shot_noise, config.read_noise)
        image = self._denoised(image)
        if config.sharpening > 0:
            image = sharpen(image, config.sharpening)
        self._frames += 1
        return jpeg(image, config.jpeg_quality)

    def _exposed(self, image: Image) -> Image:
        """Through gains that hunt for the right exposure and colour, and through the flicker of the light."""
        config = self.config
        self._wander = 0.985 * self._wander + 0.17 * self._rng.standard_normal(3)
        wander = self._wander * (
            config.exposure_wander_stops,
            config.white_balance_wander,
            config.white_balance_wander,
        )
        gains = np.array([config.red_gain + wander[1], 1.0, config.blue_gain + wander[2]])
        gain = 2.0 ** (config.light_stops + self._stops + wander[0])
        light = (np.arange(256) / 255.0)[:, None] ** _GAMMA * gain * gains
        curves = 255 * np.clip(light, 0, 1) ** (config.contrast / _GAMMA)
        exposed = np.stack([curves[image[..., k], k] for k in range(3)], -1)
        if config.flicker > 0:
            exposed *= self._flicker(len(image))[:, None, None]
        exposed = np.asarray(np.clip(exposed, 0, 255), np.uint8)
        self._meter(exposed)
        return exposed

    def _meter(self, exposed: Image) -> None:
        """Move the exposure a little towards grey, as auto-exposure does: it may brighten by 1.7 stops.

        The middle, where a face is, counts three times as much as the rest.
        """
        height, width = exposed.shape[:2]
        middle = exposed[height // 4 : -(height // 4) : 4, width // 4 : -(width // 4) : 4].mean()
        brightness = max(float(0.75 * middle + 0.25 * exposed[::4, ::4].mean()) / 255, 0.02)
        wanted = self._stops + 0.8 * _GAMMA * np.log2(_GREY / brightness)
        self._stops += 0.12 * (float(np.clip(wanted, -0.8, 1.7)) - self._stops)

    def _flicker(self, rows: int) -> NDArray[np.float64]:
        config = self.config
        phase = config.flicker_rows * np.arange(rows) / rows + config.flicker_per_frame * self._frames
        return np.asarray(1 + config.flicker * np.cos(2 * np.pi * phase))

    def _denoised(self, image: Image) -> Image:
        previous, self._previous = self._previous, image
        if previous is None or self.config.ghosting <= 0:
            return image
        share = self.config.ghosting
        mixed = (1 - share) * image.astype(np.float32) + share * previous.astype(np.float32)
        self._previous = mixed.astype(np.uint8)
        return self._previous
