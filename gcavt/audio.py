"""Sound to mel windows, offline and streaming, as PC-AVS frames them.

16 kHz mono float32 in [-1, 1]. Mel frame m covers samples [160 m - 1120, 160 m + 160); the window of video
frame t (25 fps) holds mel frames 4 (t - 2) to 4 (t - 2) + 19. It thus ends 120 ms after the frame's own time
t / 25: that is the look-ahead of lips driven by live sound, before any computing. Where that is too long a
window may do with less: mel frames that end more than `look_ahead_ms` after t / 25 are withheld, and the last
known one stands in their place. The shape stays, and a window's end that repeats itself, as sound never does,
tells the audio encoder how far it may look.

Source: PC-AVS (Zhou et al., CVPR 2021), whose STFT is lws(1280, 160, mode="speech"); written anew here.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Mel = NDArray[np.float32]

SAMPLE_RATE = 16_000
FFT_SAMPLES = 1280
HOP_SAMPLES = 160
PAD_SAMPLES = FFT_SAMPLES - HOP_SAMPLES
"""Silence before the first sample, so that frame 0 ends with the first hop."""

MEL_BANDS = 80
MEL_LOW_HZ = 125.0
MEL_HIGH_HZ = 7600.0
MEL_FLOOR = 1e-5
REFERENCE_DB = 20.0
RANGE_DB = 100.0

TARGET_RMS = 0.1
RMS_FLOOR = 1e-4

VIDEO_FPS = 25
SAMPLES_PER_VIDEO_FRAME = SAMPLE_RATE // VIDEO_FPS
MEL_PER_VIDEO_FRAME = 4
WINDOW_FRAMES = 20
WINDOW_LEAD_FRAMES = 8
"""Mel frames of a window before 4 t."""
LOOK_AHEAD_MS = 120
"""The whole window of video frame t needs the sound up to t / 25 s plus this."""
LOOK_AHEADS_MS = (120, 80, 40, 0)
"""What the audio encoder is trained for; 0 hears nothing of the frame itself."""
HOP_MS = 1000 * HOP_SAMPLES // SAMPLE_RATE


@dataclass(frozen=True)
class MelWindow:
    video_frame_index: int
    mel: Mel
    """(80, 20): bands by time, each value in [0, 1]."""


def mel_spectrogram(samples_16k: Samples, level_rms: float | None = None) -> Mel:
    """(frames, 80) in [0, 1]; frames = 7 + ceil(samples / 160). Digital silence gives exactly 0.

    `level_rms` is the loudness that counts as normal; by default the root mean square of all the samples.
    """
    samples = _mono(samples_16k)
    gain = _gain(rms(samples) if level_rms is None else level_rms)
    count = mel_frame_count(len(samples))
    padded = np.zeros(PAD_SAMPLES + count * HOP_SAMPLES, dtype=np.float32)
    padded[PAD_SAMPLES : PAD_SAMPLES + len(samples)] = samples
    mel = np.empty((count, MEL_BANDS), dtype=np.float32)
    for m in range(count):
        mel[m] = _mel_frame(padded[m * HOP_SAMPLES : m * HOP_SAMPLES + FFT_SAMPLES], gain)
    return mel


def mel_window(mel: Mel, video_frame_index: int, look_ahead_ms: int = LOOK_AHEAD_MS) -> Mel:
    """(80, 20): what the audio encoder hears for one video frame. Frames outside the sound are 0.

    Raises ValueError for a look-ahead that `withheld_frames` refuses.
    """
    first = MEL_PER_VIDEO_FRAME * video_frame_index - WINDOW_LEAD_FRAMES
    window = np.zeros((MEL_BANDS, WINDOW_FRAMES), dtype=np.float32)
    begin, end = max(first, 0), min(first + WINDOW_FRAMES, len(mel))
    if begin < end:
        window[:, begin - first : end - first] = mel[begin:end].T
    return with_look_ahead(window, look_ahead_ms)


def withheld_frames(look_ahead_ms: int) -> int:
    """How many of a window's 20 mel frames end more than `look_ahead_ms` after its video frame: 0 to 12.

    Raises ValueError unless the look-ahead is a multiple of 10 from 0 to 120.
    """
    if not 0 <= look_ahead_ms <= LOOK_AHEAD_MS or look_ahead_ms % HOP_MS:
        raise ValueError(
            f"look_ahead_ms must be a multiple of {HOP_MS} from 0 to {LOOK_AHEAD_MS}, got {look_ahead_ms}"
        )
    return (LOOK_AHEAD_MS - look_ahead_ms) // HOP_MS


def with_look_ahead(windows: Mel, look_ahead_ms: int) -> Mel:
    """Windows (..., 80, 20) as they can be known `look_ahead_ms` after their video frames."""
    withheld = withheld_frames(look_ahead_ms)
    if not withheld:
        return windows
    known = windows[..., : WINDOW_FRAMES - withheld]
    return np.concatenate([known, np.repeat(known[..., -1:], withheld, axis=-1)], axis=-1)


def mel_frame_count(sample_count: int) -> int:
    return PAD_SAMPLES // HOP_SAMPLES + math.ceil(sample_count / HOP_SAMPLES)


def video_frame_count(sample_count: int) -> int:
    """Video frames at 25 fps that begin while the sound lasts."""
    return math.ceil(sample_count / SAMPLES_PER_VIDEO_FRAME)


def rms(samples: Samples) -> float:
    """Root mean square; 0 for no samples."""
    return math.sqrt(float(np.square(samples, dtype=np.float64).mean())) if len(samples) else 0.0


class LevelTracker:
    """How loud the speaker is, followed slowly: what the whole-file RMS is to a recording, for live sound.

    Only hops that stand out of the background count, so pauses do not raise the gain. It starts at the
    normal level, from which the first words lead away: it and what was heard are mixed in decibels, so that a
    voice 30 dB quieter is known as soon as a louder one.
    """

    TIME_CONSTANT_S = 3.0
    PRIOR_S = 0.1
    """Weight of the starting level, as seconds of speech."""
    SPEECH_OVER_NOISE = 10.0
    """Power ratio (10 dB) above the quietest recent hops from which a hop counts as speech."""
    SPEECH_MIN_RMS = 2e-3
    NOISE_RISE_PER_S = 10.0
    """The background estimate falls at once and rises by this power ratio a second (10 dB)."""
    MAX_GAIN_DB = 20.0

    def __init__(self, start_rms: float = TARGET_RMS) -> None:
        self._start_rms = start_rms
        self._power = start_rms**2
        self._noise_power = math.inf
        self._speech_hops = 0

    @property
    def level_rms(self) -> float:
        """The tracked level, kept where the gain to the normal level is within 20 dB either way."""
        limit = math.pow(10.0, self.MAX_GAIN_DB / 20.0)
        heard_s = self._speech_hops * HOP_SAMPLES / SAMPLE_RATE
        share = heard_s / (heard_s + self.PRIOR_S)
        level = math.pow(self._start_rms, 1 - share) * math.pow(self._power, share / 2)
        return min(max(level, TARGET_RMS / limit), TARGET_RMS * limit)

    def update(self, hop: Samples) -> None:
        """Hear the next 10 ms (160 samples)."""
        hop_s = HOP_SAMPLES / SAMPLE_RATE
        power = rms(hop) ** 2
        risen = self._noise_power * math.pow(self.NOISE_RISE_PER_S, hop_s)
        self._noise_power = max(min(risen, power), self.SPEECH_MIN_RMS**2 / self.SPEECH_OVER_NOISE)
        if power <= self._noise_power * self.SPEECH_OVER_NOISE:
            return
        self._speech_hops += 1
        # the mean of all speech so far, later an exponential one; the first hop replaces the start
        self._power += (power - self._power) * hop_s / min(self._speech_hops * hop_s, self.TIME_CONSTANT_S)


class StreamingMel:
    """Mel windows from sound that arrives in pieces of any size.

    With a level given as a number the windows equal `mel_window(mel_spectrogram(...), t)` bit for bit; with a
    LevelTracker they are the same for any division into pieces. The window of video frame t comes out once
    640 t + 16 look_ahead_ms samples are in: that long after the frame's own time.
    """

    def __init__(self, level: float | LevelTracker, look_ahead_ms: int = LOOK_AHEAD_MS) -> None:
        """Raises ValueError for a look-ahead that `withheld_frames` refuses."""
        self._level = level
        self._withheld = withheld_frames(look_ahead_ms)
        self.reset()

    def reset(self, first_video_frame: int = 0) -> None:
        """Forget the sound so far; the next sample belongs to the start of `first_video_frame`."""
        self._first_video_frame = first_video_frame
        self._unframed: Samples = np.zeros(PAD_SAMPLES, dtype=np.float32)
        self._sample_count = 0
        self._frame_count = 0
        silence = np.zeros(MEL_BANDS, dtype=np.float32)
        known = WINDOW_FRAMES - self._withheld
        self._frames: deque[Mel] = deque([silence] * known, maxlen=known)

    def push(self, samples_16k: Samples) -> list[MelWindow]:
        """Take the next samples; returns the windows they complete, oldest first."""
        samples = _mono(samples_16k)
        is_first = self._sample_count == 0
        self._sample_count += len(samples)
        # without look-ahead the first window lies wholly before the sound
        before = self._due() if is_first and len(samples) else []
        return before + self._take(samples)

    def finish(self) -> list[MelWindow]:
        """The remaining windows, as if silence followed, up to the last video frame that has sound.

        Call `reset` before pushing again.
        """
        frames = mel_frame_count(self._sample_count)
        missing = PAD_SAMPLES + frames * HOP_SAMPLES
        missing -= self._frame_count * HOP_SAMPLES + len(self._unframed)
        windows = self._take(np.zeros(missing, dtype=np.float32))
        video_frames = video_frame_count(self._sample_count)
        last_needed = MEL_PER_VIDEO_FRAME * (video_frames - 1) + self._frames_ahead
        while self._frame_count < last_needed:
            windows += self._append(np.zeros(MEL_BANDS, dtype=np.float32))
        return [w for w in windows if w.video_frame_index - self._first_video_frame < video_frames]

    def _take(self, samples: Samples) -> list[MelWindow]:
        sound = np.concatenate([self._unframed, samples])
        windows: list[MelWindow] = []
        begin = 0
        while begin + FFT_SAMPLES <= len(sound):
            frame = sound[begin : begin + FFT_SAMPLES]
            windows += self._append(_mel_frame(frame, self._gain_at(frame[PAD_SAMPLES:])))
            begin += HOP_SAMPLES
        self._unframed = sound[begin:].copy()
        return windows

    def _gain_at(self, hop: Samples) -> float:
        if not isinstance(self._level, LevelTracker):
            return _gain(self._level)
        self._level.update(hop)
        return _gain(self._level.level_rms)

    def _append(self, mel_frame: Mel) -> list[MelWindow]:
        self._frames.append(mel_frame)
        self._frame_count += 1
        return self._due()

    @property
    def _frames_ahead(self) -> int:
        """Mel frames of a window from 4 t on that it waits for."""
        return WINDOW_FRAMES - WINDOW_LEAD_FRAMES - self._withheld

    def _due(self) -> list[MelWindow]:
        """The window that the newest mel frame completes, if any."""
        ahead = self._frame_count - self._frames_ahead
        if ahead < 0 or ahead % MEL_PER_VIDEO_FRAME:
            return []
        index = self._first_video_frame + ahead // MEL_PER_VIDEO_FRAME
        frames = [*self._frames, *[self._frames[-1]] * self._withheld]
        return [MelWindow(index, np.stack(frames, axis=1))]


class Resampler:
    """Sound of any rate, channel count and sample format to 16 kHz mono, piece by piece (PyAV).

    Channels are averaged here: FFmpeg's own downmix of float samples is 3 dB louder and may exceed 1.
    Holds back about a millisecond of sound until the next piece or `flush`.
    """

    def __init__(self) -> None:
        self._resampler = AudioResampler(format="fltp", rate=SAMPLE_RATE)

    def push(self, samples: NDArray[np.float32] | NDArray[np.int16], sample_rate: int) -> Samples:
        """16 kHz mono of the next samples, (n,) or (channels, n). The rate must not change in mid-stream."""
        if samples.size == 0:
            return np.zeros(0, dtype=np.float32)
        return self.push_frame(_audio_frame(samples, sample_rate))

    def push_frame(self, frame: AudioFrame) -> Samples:
        """The same for a decoded PyAV frame."""
        frame.pts = None
        return _joined(self._resampler.resample(frame))

    def flush(self) -> Samples:
        """What was held back; the resampler is spent afterwards."""
        return _joined(self._resampler.resample(None))


def resample_to_16k_mono(samples: NDArray[np.float32] | NDArray[np.int16], sample_rate: int) -> Samples:
    """A whole recording, (n,) or (channels, n), as 16 kHz mono float32 (n,)."""
    resampler = Resampler()
    return np.concatenate([resampler.push(samples, sample_rate), resampler.flush()])


def read_audio_16k_mono(path: Path | str) -> Samples:
    """The first audio track of a file, as 16 kHz mono float32 (n,).

    Raises ValueError when the file has no audio track or none of it can be decoded.
    """
    resampler = Resampler()
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise ValueError(f"{path} has no audio track")
            pieces = [resampler.push_frame(frame) for frame in container.decode(audio=0)]
    except av.error.InvalidDataError as error:
        raise ValueError(f"{path} cannot be decoded: {error.strerror}") from error
    if not pieces:
        raise ValueError(f"{path} has an audio track without sound")
    return np.concatenate([*pieces, resampler.flush()])


def mel_filterbank() -> NDArray[np.float64]:
    """(80, 641): area-normalised triangles, evenly spaced on Slaney's mel scale from 125 to 7600 Hz."""
    edges_hz = mel_frequencies(MEL_BANDS + 2, MEL_LOW_HZ, MEL_HIGH_HZ)
    bins_hz = np.linspace(0.0, SAMPLE_RATE / 2, FFT_SAMPLES // 2 + 1)
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    triangles = np.minimum((bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre))
    return np.asarray(np.maximum(triangles, 0.0) * 2.0 / (high - low))


def mel_frequencies(count: int, low_hz: float, high_hz: float) -> NDArray[np.float64]:
    """Frequencies evenly spaced on Slaney's mel scale: linear to 1 kHz, then 27 steps for a factor of 6.4."""
    linear_hz, break_hz, step = 200.0 / 3.0, 1000.0, math.log(6.4) / 27.0
    break_mel = break_hz / linear_hz

    def mel_of(hz: float) -> float:
        return hz / linear_hz if hz < break_hz else break_mel + math.log(hz / break_hz) / step

    mels = np.linspace(mel_of(low_hz), mel_of(high_hz), count)
    above = break_hz * np.exp(step * (np.maximum(mels, break_mel) - break_mel))
    return np.where(mels < break_mel, mels * linear_hz, above)


def _mel_frame(samples_1280: Samples, gain: float) -> Mel:
    """(80,) of one frame. Offline and streaming both come through here, one frame at a time.

    A batched matrix product would round differently with the number of frames.
    """
    window, bins, weights, first_of_band = _constants()
    magnitude = np.abs(np.fft.rfft(samples_1280 * window * gain))
    mel = np.add.reduceat(magnitude[bins] * weights, first_of_band)
    decibel = 20.0 * np.log10(np.maximum(mel, MEL_FLOOR)) - REFERENCE_DB
    return np.asarray(np.clip((decibel + RANGE_DB) / RANGE_DB, 0.0, 1.0), dtype=np.float32)


@cache
def _constants() -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64], NDArray[np.intp]]:
    """Window (1280,), and the filterbank's non-zero part: bins, weights, where each band begins."""
    # lws scales its square-root Hann window by sqrt(hop / FFT * 2) = 1/2 for perfect reconstruction
    window = 0.5 * np.sin(np.pi * (np.arange(FFT_SAMPLES) + 0.5) / FFT_SAMPLES)
    filters = mel_filterbank()
    bands, bins = np.nonzero(filters)
    first_of_band = np.searchsorted(bands, np.arange(MEL_BANDS))
    return window, bins, filters[bands, bins], first_of_band


def _gain(level_rms: float) -> float:
    return TARGET_RMS / max(level_rms, RMS_FLOOR)


def _mono(samples: Samples) -> Samples:
    if samples.ndim != 1:
        raise ValueError(f"samples must be mono, shape (n,), got {samples.shape}")
    return np.asarray(samples, dtype=np.float32)


def _audio_frame(samples: NDArray[np.float32] | NDArray[np.int16], sample_rate: int) -> AudioFrame:
    formats = {"float32": "fltp", "int16": "s16p"}
    if samples.dtype.name not in formats:
        raise ValueError(f"samples must be float32 or int16, got {samples.dtype}")
    planes = np.ascontiguousarray(np.atleast_2d(samples))
    layout = {1: "mono", 2: "stereo"}.get(len(planes), f"{len(planes)}c")
    frame = AudioFrame.from_ndarray(planes, format=formats[samples.dtype.name], layout=layout)
    frame.sample_rate = sample_rate
    return frame


def _joined(frames: list[AudioFrame]) -> Samples:
    pieces = [frame.to_ndarray().mean(axis=0, dtype=np.float32) for frame in frames]
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.float32)
