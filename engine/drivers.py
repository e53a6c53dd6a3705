"""Codes out of driving media: a face in pictures, a voice in sound. Used in the encoding thread only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.clock import NS_PER_MS, NS_PER_S
from engine.codes import Code, Socket
from engine.media import AudioChunk, VideoFrame
from engine.metrics import StageTimes
from engine.smoothing import OneEuroFilter
from gcavt.audio import (
    LOOK_AHEAD_MS,
    SAMPLE_RATE,
    VIDEO_FPS,
    LevelTracker,
    MelWindow,
    Resampler,
    StreamingMel,
)
from gcavt.preprocessing import Face, StableCrop, face_from_landmarks, transform_points

if TYPE_CHECKING:
    from engine.face_tracker import FaceTracker
    from engine.puppeteer import Puppeteer

PAUSE_NS = 500 * NS_PER_MS
"""Sound that was missing for this long starts the voice afresh."""
MUTED_PEAK = 1e-4
"""-80 dB of full scale: the noise of a quiet room in a cheap microphone is 20 dB louder."""
MUTED_NS = 300 * NS_PER_MS


class FaceDriver:
    """Follows the face of one source from frame to frame and reads its codes.

    With `every` above 1 the face is looked for on every such frame, and its landmarks move on between as they
    last moved. Pose and expression are read on the frame after a look, so that no frame has to do it all;
    until they are read again the pose goes on as it last went and the expression holds. The mouth is read on
    every frame.
    """

    def __init__(self, tracker: FaceTracker, fps: float, *, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self._tracker = tracker
        self._every = every
        self._frames_since = 0
        self._face: Face | None = None
        self._step_K2: NDArray[np.float32] | None = None
        self._image_hw: tuple[int, int] | None = None
        self._held: dict[Socket, Code] = {}
        self._pose_read: Code | None = None
        self._pose_step: Code | None = None
        self._crop = StableCrop(fps)
        self._steady_pose = OneEuroFilter()
        self._timestamp_ms = 0

    def read(
        self, puppeteer: Puppeteer, frame: VideoFrame, sockets: frozenset[Socket], stages: StageTimes
    ) -> dict[Socket, Code]:
        """The codes for the sockets that this source feeds; none where no face or no finite code is read."""
        # The tracker wants rising timestamps.
        self._timestamp_ms = max(self._timestamp_ms + 1, frame.capture_time_ns // NS_PER_MS)
        with stages.measure("track"):
            face = self._follow(frame)
        if face is None:
            self._held.clear()
            self._pose_read = self._pose_step = None
            return {}
        due = self._due(sockets)
        with stages.measure("encode"):
            height, width = frame.image_HWC.shape[:2]
            crop_from_image = self._crop.update(face, (height, width))
            landmarks_68 = transform_points(face.landmarks_68, crop_from_image)
            codes = puppeteer.codes_in_picture(frame.image_HWC, crop_from_image, landmarks_68, due)
        if not all(np.isfinite(code).all() for code in codes.values()):
            return {}  # and let no filter see it: it would never forget
        if "pose" in codes:
            codes["pose"] = self._steady_pose.update(codes["pose"], frame.capture_time_ns)
            if self._pose_read is not None:
                self._pose_step = (codes["pose"] - self._pose_read) / np.float32(self._every)
            self._pose_read = codes["pose"]
        elif self._pose_step is not None and "pose" in self._held:
            codes["pose"] = self._held["pose"] + self._pose_step
        self._held |= codes
        return {socket: self._held[socket] for socket in sockets}

    def _due(self, sockets: frozenset[Socket]) -> frozenset[Socket]:
        """What is read on this frame."""
        if self._every == 1 or self._frames_since == 1:
            return sockets
        return frozenset(s for s in sockets if s == "mouth" or s not in self._held)

    def _follow(self, frame: VideoFrame) -> Face | None:
        """The face in this frame: looked for, or moved on."""
        height, width = frame.image_HWC.shape[:2]
        before = self._face
        if before is not None and self._step_K2 is not None and self._image_hw == (height, width):
            self._frames_since += 1
            if self._frames_since < self._every:
                self._face = face_from_landmarks(before.landmarks_478 + self._step_K2)
                return self._face
        face = self._tracker.track(frame.image_HWC, self._timestamp_ms)
        if face is not None and before is not None and self._image_hw == (height, width):
            # `before` was itself moved on since the last look, so this is the step of one frame
            self._step_K2 = 0.5 * (face.landmarks_478 - before.landmarks_478) + (
                0.5 * self._step_K2 if self._step_K2 is not None else 0
            )
        else:
            self._step_K2 = None
        self._face, self._image_hw, self._frames_since = face, (height, width), 0
        return face

    def close(self) -> None:
        self._tracker.close()


@dataclass(frozen=True)
class Utterance:
    """The newest stretch of sound that a mouth code can be made of."""

    mel_80x20: NDArray[np.float32]
    time_ns: int
    """The moment that it speaks of."""
    chunk_index: int
    """Which of the chunks made it whole."""


class VoiceDriver:
    """Turns live sound into mouth codes.

    A code belongs to a moment `look_ahead_ms` before the newest sound that it was made of: codes come every
    40 ms of sound, so the newest one is that old when it comes and up to 40 ms older when it is replaced.
    A microphone that gives no sound at all, not even noise, has been muted: it says nothing.
    """

    def __init__(self, look_ahead_ms: int = LOOK_AHEAD_MS) -> None:
        """Raises ValueError unless the look-ahead is a multiple of 10 from 0 to 120."""
        self._look_ahead_ms = look_ahead_ms
        self._end_ns: int | None = None
        self._start()

    def _start(self) -> None:
        self._resampler = Resampler()
        self._mel = StreamingMel(LevelTracker(), self._look_ahead_ms)
        self._heard_samples = 0
        self._audible_ns: int | None = None

    def hear(
        self, puppeteer: Puppeteer, chunks: Sequence[AudioChunk], stages: StageTimes
    ) -> tuple[Code, int] | None:
        """The newest mouth code that these chunks complete, and the time it belongs to, in nanoseconds."""
        with stages.measure("encode"):
            utterance = self.listen(chunks)
            if utterance is None:
                return None
            return puppeteer.content_code_from_mel(utterance.mel_80x20), utterance.time_ns

    def listen(self, chunks: Sequence[AudioChunk]) -> Utterance | None:
        """What `hear` reads codes from: cheap, for a voice that need not be shown yet."""
        newest: tuple[int, MelWindow] | None = None
        for index, chunk in enumerate(chunks):
            newest = next(((index, window) for window in reversed(self._windows(chunk))), newest)
        if newest is None or self._end_ns is None or self._is_muted:
            return None
        index, window = newest
        frame_samples = window.video_frame_index * SAMPLE_RATE // VIDEO_FPS
        since_ns = (self._heard_samples - frame_samples) * NS_PER_S // SAMPLE_RATE
        return Utterance(window.mel, self._end_ns - since_ns, index)

    @property
    def _is_muted(self) -> bool:
        if self._end_ns is None or self._audible_ns is None:
            return True
        return self._end_ns - self._audible_ns > MUTED_NS

    def _windows(self, chunk: AudioChunk) -> list[MelWindow]:
        if self._end_ns is not None and abs(chunk.capture_time_ns - self._end_ns) > PAUSE_NS:
            self._start()
        self._end_ns = chunk.end_time_ns
        if len(chunk.samples) and float(np.abs(chunk.samples).max()) > MUTED_PEAK:
            self._audible_ns = self._end_ns
        samples_16k = self._resampler.push(chunk.samples, chunk.sample_rate)
        self._heard_samples += len(samples_16k)
        return self._mel.push(samples_16k)
