"""RTP packets of one video stream in, encoded frames out, as early as can be known that a frame is whole.

aiortc's own jitter buffer ends a video frame when a packet of the *next* frame arrives (one frame late),
releases one frame per arriving packet (a backlog never drains) and waits for a lost packet until 512 more
have come. This one ends a frame at its marker bit, releases everything that is whole, and after `give_up_ms`
steps over what is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from engine.rtc.rtp_time import SEQUENCE_MODULUS, unwrapped

RESTART_DISTANCE = 3000
"""Packets this far behind the expected one are no late packets: the sender has started over."""


class MediaPacket(Protocol):
    """The part of aiortc's RtpPacket that matters here; `_data` is the depacketised payload."""

    sequence_number: int
    timestamp: int
    marker: int
    payload_type: int
    _data: bytes


@dataclass(frozen=True)
class EncodedFrame:
    data: bytes
    timestamp: int
    """RTP timestamp, 32 bits, as sent."""
    payload_type: int


@dataclass(frozen=True)
class Assembled:
    """What one packet, or the passing of time, brought about."""

    frames: list[EncodedFrame]
    is_torn: bool
    """Something was stepped over: what follows refers to pictures that the decoder never got."""


class FrameAssembler:
    """Puts the packets of one video stream in order and joins them to frames."""

    def __init__(self, *, give_up_ms: float, now_ms: Callable[[], float], capacity: int = 512) -> None:
        """give_up_ms: how long a missing packet is waited for. capacity: packets held while waiting."""
        self.give_up_ms = give_up_ms
        self._now_ms = now_ms
        self._capacity = capacity
        self._packets: dict[int, MediaPacket] = {}
        self._expected: int | None = None
        self._gap: tuple[int, float] | None = None
        self.skipped_gaps = 0

    @property
    def give_up_at_ms(self) -> float | None:
        """When `step_over_lost` may find work though nothing arrives; None if only a packet can bring it."""
        at_ms = None if self._gap is None else self._gap[1] + self.give_up_ms
        return None if at_ms is None or at_ms <= self._now_ms() else at_ms

    def add(self, packet: MediaPacket) -> Assembled:
        """Take one packet; returns the frames it completed, in order."""
        if self._expected is None:
            self._expected = packet.sequence_number
        sequence = unwrapped(packet.sequence_number, self._expected, SEQUENCE_MODULUS)
        ahead = sequence - self._expected
        has_restarted = ahead < -RESTART_DISTANCE or ahead >= self._capacity
        if has_restarted:
            self._packets.clear()
            self._expected = sequence
            self._gap = None
        elif ahead < 0:
            return Assembled([], is_torn=False)
        self._packets[sequence] = packet
        frames = self._take_whole_frames()
        stepped = self.step_over_lost()
        return Assembled(frames + stepped.frames, has_restarted or stepped.is_torn)

    def step_over_lost(self) -> Assembled:
        """Give up what has been missing for too long, and return what could be joined behind it."""
        frames: list[EncodedFrame] = []
        is_torn = False
        while self._expected is not None and self._step_over_gap():
            is_torn = True
            frames += self._take_whole_frames()
        return Assembled(frames, is_torn)

    def _take_whole_frames(self) -> list[EncodedFrame]:
        frames = []
        while (end := self._whole_frame_end()) is not None:
            assert self._expected is not None
            packets = [self._packets.pop(sequence) for sequence in range(self._expected, end)]
            self._expected = end
            data = b"".join(packet._data for packet in packets)
            if data:  # padding alone makes no frame
                frames.append(EncodedFrame(data, packets[0].timestamp, packets[0].payload_type))
        return frames

    def _whole_frame_end(self) -> int | None:
        """One past the last packet of the frame that starts at the expected packet, if it is all there."""
        assert self._expected is not None
        sequence = self._expected
        first = self._packets.get(sequence)
        packet = first
        while first is not None and packet is not None:
            if packet.timestamp != first.timestamp:
                return sequence
            if packet.marker:
                return sequence + 1
            sequence += 1
            packet = self._packets.get(sequence)
        return None

    def _step_over_gap(self) -> bool:
        """Give up on the first gap if it has lasted too long. True if it was stepped over."""
        assert self._expected is not None
        missing = self._expected
        while missing in self._packets:
            missing += 1
        later = sorted(sequence for sequence in self._packets if sequence > missing)
        if not later:
            self._gap = None
            return False
        if self._gap is None or self._gap[0] != missing:
            self._gap = (missing, self._now_ms())
        if self._now_ms() - self._gap[1] < self.give_up_ms:
            return False
        # The frame in which the gap ends may lack its beginning, so it is given up with the gap.
        torn = self._packets[later[0]].timestamp
        resume = next((sequence for sequence in later if self._packets[sequence].timestamp != torn), None)
        if resume is None:
            return False
        for sequence in [sequence for sequence in self._packets if sequence < resume]:
            del self._packets[sequence]
        self._expected = resume
        self._gap = None
        self.skipped_gaps += 1
        return True
