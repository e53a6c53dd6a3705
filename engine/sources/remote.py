"""A browser's camera and microphone, published by WHIP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection
from aiortc.mediastreams import MediaStreamError
from numpy.typing import NDArray

from engine.clock import NS_PER_S, MediaClock
from engine.mailbox import LatestFrame
from engine.media import AudioChunk
from engine.rtc.capture_clock import CaptureClock, QuickestWay
from engine.rtc.receiver import end_decoding, make_low_latency
from engine.sources.source import SOUND_RATE, Arrival, HearSound

logger = logging.getLogger(__name__)


class RemoteSource:
    """Reads the tracks of one peer connection, always, so that nothing can pile up behind them."""

    kind = "remote"

    def __init__(self, connection: RTCPeerConnection, clock: MediaClock, on_sound: HearSound) -> None:
        self.pictures: LatestFrame[Arrival] = LatestFrame()
        self._connection = connection
        self._clock = clock
        self._on_sound = on_sound
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._last_media_ns: int | None = None
        self._sender_way = QuickestWay()
        connection.on("track", self._take_track)

    @property
    def state(self) -> dict[str, bool]:
        is_fresh = (
            self._last_media_ns is not None and self._clock.now_ns() - self._last_media_ns < 2 * NS_PER_S
        )
        return {
            "video": "video" in self._readers,
            "audio": "audio" in self._readers,
            "live": is_fresh and not self.is_over,
        }

    @property
    def is_over(self) -> bool:
        return self._connection.connectionState in ("failed", "closed")

    def start(self) -> None:
        """Nothing to do: reading starts with the tracks."""

    async def close(self) -> None:
        for receiver in self._connection.getReceivers():
            await end_decoding(receiver)
        await self._connection.close()
        for reader in self._readers.values():
            reader.cancel()
        await asyncio.gather(*self._readers.values(), return_exceptions=True)

    def _take_track(self, track: MediaStreamTrack) -> None:
        receiver = next(r for r in self._connection.getReceivers() if r.track is track)
        capture = make_low_latency(receiver, self._clock, self._sender_way)
        read = self._read_pictures if track.kind == "video" else self._read_sound
        self._readers[track.kind] = asyncio.create_task(self._until_ended(read(track, capture), track.kind))

    async def _until_ended(self, reading: Coroutine[None, None, None], kind: str) -> None:
        try:
            await reading
        except MediaStreamError:
            logger.info("remote %s track ended", kind)

    async def _read_pictures(self, track: MediaStreamTrack, capture: CaptureClock) -> None:
        while True:
            frame = await track.recv()
            assert isinstance(frame, av.VideoFrame)
            arrival_ns = self._last_media_ns = self._clock.now_ns()
            capture_ns = capture.capture_time_ns(_media_time_ns(frame))
            self.pictures.put(Arrival(frame, capture_ns, arrival_ns))

    async def _read_sound(self, track: MediaStreamTrack, capture: CaptureClock) -> None:
        resampler = MonoResampler()
        while True:
            frame = await track.recv()
            assert isinstance(frame, av.AudioFrame)
            self._last_media_ns = self._clock.now_ns()
            capture_ns = capture.capture_time_ns(_media_time_ns(frame))
            for samples in resampler.resample(frame):
                self._on_sound(AudioChunk(samples, SOUND_RATE, capture_ns))


class MonoResampler:
    """Any sound as mono float32 at SOUND_RATE; the peer may change codec, rate and channels at any time."""

    def __init__(self) -> None:
        self._form: tuple[str, str, int] | None = None
        self._resampler: av.AudioResampler | None = None

    def resample(self, frame: av.AudioFrame) -> list[NDArray[np.float32]]:
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or form != self._form:
            self._form = form
            self._resampler = av.AudioResampler(format="flt", layout="mono", rate=SOUND_RATE)
        return [np.asarray(mono.to_ndarray()[0], np.float32) for mono in self._resampler.resample(frame)]


def _media_time_ns(frame: av.VideoFrame | av.AudioFrame) -> int:
    assert frame.pts is not None and frame.time_base is not None
    return int(frame.pts * frame.time_base * NS_PER_S)
