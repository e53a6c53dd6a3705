"""Makes clips: a person, a performance, a camera; then picture, sound, masks and truth in files side by side.

A clip is NAME.mp4 (H.264 and AAC), NAME.masks.mkv (see `mask_video`) and NAME.parquet (see `truth_table`).
The table is put in place last: where it is, the clip is whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from training.synthetic import truth
from training.synthetic.camera import Webcam, WebcamConfig
from training.synthetic.clip_writer import ClipWriter, replacing
from training.synthetic.identity import Identity, Scene
from training.synthetic.mask_video import MaskWriter
from training.synthetic.motion import FPS, Performance, perform_apart
from training.synthetic.renderer import Renderer
from training.synthetic.speech import Engine, Voice, random_voice
from training.synthetic.truth_table import read_facts, write_truth

PARTS = (".mp4", ".masks.mkv", ".parquet")
_THUMBNAIL_PX = 128
_CAPTION_PX = 18
_MOST_SHEET_ROWS = 32
SHEET_COLUMNS = 6


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """What all clips of one data set have in common; with a seed, everything about a clip."""

    seconds: float = 10.0
    size_px: int = 256
    supersampling: int = 2
    background: Literal["scene", "black"] = "scene"
    webcam: bool = False
    idle_share: float = 0.08
    """Share of clips in which somebody only listens."""
    voices: tuple[Engine, ...] = ("espeak",)
    quality_crf: int = 18

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {**dataclasses.asdict(self), "voices": list(self.voices)}


def clip_name(seed: int) -> str:
    return f"identity_{seed:06d}"


def is_finished(folder: Path, seed: int) -> bool:
    return all((folder / f"{clip_name(seed)}{part}").is_file() for part in PARTS)


def other_settings(folder: Path, seed: int, settings: ClipSettings) -> list[str]:
    """Which settings a finished clip was made with that are not these, as "size_px 512 instead of 256"."""
    found = read_facts(folder / f"{clip_name(seed)}.parquet").get("settings", {})
    wanted = settings.facts()
    return [
        f"{key} {found.get(key)} instead of {value}"
        for key, value in wanted.items()
        if found.get(key) != value
    ]


def cast(seed: int, settings: ClipSettings) -> tuple[Identity, Voice, Performance, np.random.Generator]:
    """Who is in the clip, with which voice, and what they do; and the generator that goes on from there."""
    rng = np.random.default_rng((seed, 1))
    identity = Identity(seed)
    voice = random_voice(rng, identity.masculinity, settings.voices)
    is_idle = bool(rng.random() < settings.idle_share)
    performance, rng = perform_apart(rng, settings.seconds, voice, is_idle=is_idle)
    return identity, voice, performance, rng


def write_clip(
    folder: Path, seed: int, settings: ClipSettings, on_frame: Callable[[], None] = lambda: None
) -> None:
    """Render one identity's clip into `folder`; `on_frame` is called after each frame.

    Nothing is left behind if it is interrupted. Raises EngineMissingError if the voice's engine is missing.
    """
    identity, voice, performance, rng = cast(seed, settings)
    camera = Webcam(WebcamConfig.draw(rng), rng) if settings.webcam else None
    renderer = Renderer(
        identity,
        Scene.from_seed(seed),
        size_px=settings.size_px,
        supersampling=settings.supersampling,
        background=settings.background,
    )
    landmarks, visible = [], []
    with ExitStack() as stack:  # left in reverse: the table takes its name last
        table_path, clip_path, masks_path = (
            stack.enter_context(replacing(folder / f"{clip_name(seed)}{part}"))
            for part in (".parquet", ".mp4", ".masks.mkv")
        )
        with (
            ClipWriter(
                clip_path,
                size_px=settings.size_px,
                fps=FPS,
                samples=performance.samples,
                sample_rate=performance.sample_rate,
                quality_crf=settings.quality_crf,
            ) as clip,
            MaskWriter(masks_path, size_px=settings.size_px, fps=FPS) as masks,
        ):
            for weights, pose in zip(performance.weights_T52, performance.pose_T6, strict=True):
                render = renderer.render(weights, pose)
                clip.write(render.image if camera is None else camera.film(render.image))
                masks.write(render.segmentation, render.alpha)
                points, seen = truth.landmarks_478(render)
                landmarks.append(points)
                visible.append(seen)
                on_frame()
        facts = {
            "seed": seed,
            "size_px": settings.size_px,
            "voice": dataclasses.asdict(voice),
            "camera": None if camera is None else dataclasses.asdict(camera.config),
            "settings": settings.facts(),
        }
        write_truth(table_path, performance, np.stack(landmarks), np.stack(visible), facts)


def write_contact_sheet(folder: Path, seeds: list[int]) -> Path:
    """A picture of all clips, a row each, read back from the files; of many clips every n-th.

    Returns its path. Raises OSError if it cannot be written.
    """
    shown = [seeds[k] for k in np.linspace(0, len(seeds) - 1, min(len(seeds), _MOST_SHEET_ROWS)).astype(int)]
    path = folder / "contact_sheet.png"
    sheet = np.vstack([_sheet_row(folder, seed) for seed in shown])
    done, data = cv2.imencode(".png", sheet[..., ::-1])
    if not done:
        raise OSError(f"cannot encode {path}")
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())
    return path


def _sheet_row(folder: Path, seed: int) -> NDArray[np.uint8]:
    name = clip_name(seed)
    with av.open(str(folder / f"{name}.mp4")) as container:
        stream = container.streams.video[0]
        wanted = set(np.linspace(0, max(stream.frames - 1, 0), SHEET_COLUMNS).astype(int).tolist())
        frames = [
            frame.to_ndarray(format="rgb24")
            for t, frame in enumerate(container.decode(video=0))
            if t in wanted
        ]
    side = _THUMBNAIL_PX
    cells = [cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in frames]
    cells += [np.zeros((side, side, 3), np.uint8)] * (SHEET_COLUMNS - len(cells))
    caption = np.full((_CAPTION_PX, side * SHEET_COLUMNS, 3), 24, np.uint8)
    facts = read_facts(folder / f"{name}.parquet")
    said = f"{name}  {facts['text'] or '(listens)'}"
    ascii_only = said.encode("ascii", "replace").decode()[:118]
    cv2.putText(caption, ascii_only, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (230, 230, 230), 1, cv2.LINE_AA)
    return np.asarray(np.vstack([caption, np.hstack(cells)]), np.uint8)
