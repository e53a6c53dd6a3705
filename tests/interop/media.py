"""A moving picture and a tone, as footage and as ready-made RTP packets; and patience."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import av
import numpy as np
from aiortc.codecs.opus import OpusEncoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.rtp import RtpPacket

from clients.bench.headless import Footage
from engine.sources.source import SOUND_RATE
from tests.bundles import astronaut

FRAMES = 25
SIDE_PX = 256
PATIENCE_S = 180.0


def footage() -> Footage:
    """A second of a face that wanders about, and of a tone."""
    photo = astronaut()
    pictures = []
    for index in range(FRAMES):
        x, y = 60 + round(20 * np.sin(index / 4)), 10 + round(10 * np.cos(index / 4))
        view = np.ascontiguousarray(photo[y : y + SIDE_PX, x + 30 : x + 30 + SIDE_PX])
        frame = av.VideoFrame.from_ndarray(view, format="rgb24").reformat(format="yuv420p")
        pictures.append(np.asarray(frame.to_ndarray(), np.uint8))
    tone = 8000 * np.sin(2 * np.pi * 220 * np.arange(SOUND_RATE) / SOUND_RATE)
    return Footage(pictures, tone.astype(np.int16))


def write_rtp(path: Path, *, video_ssrc: int, video_type: int, audio_ssrc: int, audio_type: int) -> None:
    """A second of VP8 and Opus as JSON: [{"kind", "at_ms", "packet": base64}], in the order of sending."""
    moving = footage()
    packets = []
    sequence = 0
    for index, encoded in enumerate(moving.encoded()):
        payloads = Vp8Encoder._packetize(encoded, index)
        for place, payload in enumerate(payloads):
            packet = RtpPacket(
                payload_type=video_type,
                marker=int(place == len(payloads) - 1),
                sequence_number=sequence,
                timestamp=index * 3600,
                ssrc=video_ssrc,
                payload=payload,
            )
            sequence += 1
            packets.append(("video", index * 40, packet))
    encoder = OpusEncoder()
    for index in range(50):
        samples = np.repeat(moving.sound[index * 960 : (index + 1) * 960], 2)[None]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="s16", layout="stereo")
        frame.sample_rate, frame.pts = SOUND_RATE, index * 960
        (payload, *_), _ = encoder.encode(frame)
        packet = RtpPacket(
            payload_type=audio_type,
            sequence_number=index,
            timestamp=index * 960,
            ssrc=audio_ssrc,
            payload=payload,
        )
        packets.append(("audio", index * 20, packet))
    packets.sort(key=lambda entry: entry[1])
    path.write_text(
        json.dumps(
            [
                {"kind": kind, "at_ms": at_ms, "packet": base64.b64encode(packet.serialize()).decode()}
                for kind, at_ms, packet in packets
            ]
        )
    )


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not await condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        await asyncio.sleep(0.1)
