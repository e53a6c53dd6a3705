"""RTP packets in, encoded frames out, as early as can be known that a frame is whole.

aiortc's own jitter buffer ends a video frame when a packet of the *next* frame arrives (one frame late),
keeps four audio packets back for good, releases one frame per arriving packet (a backlog never drains) and
waits for a lost packet until 512 more have come. This one ends a video frame at its marker bit, releases
everything that is whole, and after `give_up_ms` steps over what is lost and asks for a key frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

SEQUENCE_MODULUS = 1 << 16
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
    """What one packet brought about."""

    frames: list[EncodedFrame]
    wants_keyframe: bool


class FrameAssembler:
    """Puts the packets of one RTP stream in order and joins them to frames."""

    def __init__(
        self, *, is_video: bool, give_up_ms: float, now_ms: Callable[[], float], capacity: int = 512
    ) -> None:
        """give_up_ms: how long a missing packet is waited for. capacity: packets held while waiting."""
        self._is_video = is_video
        self._give_up_ms = give_up_ms
        self._now_ms = now_ms
        self._capacity = capacity
        self._packets: dict[int, MediaPacket] = {}
        self._expected: int | None = None
        self._gap: tuple[int, float] | None = None
        self.skipped_gaps = 0

    def add(self, packet: MediaPacket) -> Assembled:
        """Take one packet; returns the frames it completed, in order."""
        sequence = self._unwrapped(packet.sequence_number)
        wants_keyframe = False
        if self._expected is None:
            self._expected = sequence
        ahead = sequence - self._expected
        if ahead < -RESTART_DISTANCE or ahead >= self._capacity:
            self._packets.clear()
            self._expected = sequence
            self._gap = None
            wants_keyframe = self._is_video
        elif ahead < 0:
            return Assembled([], wants_keyframe=False)
        self._packets[sequence] = packet
        frames = self._take_whole_frames()
        while self._step_over_lost():
            wants_keyframe = self._is_video
            frames += self._take_whole_frames()
        return Assembled(frames, wants_keyframe)

    def _unwrapped(self, sequence_number: int) -> int:
        """The 16-bit number continued without wrapping, nearest to the expected one."""
        if self._expected is None:
            return sequence_number
        distance = (sequence_number - self._expected) % SEQUENCE_MODULUS
        if distance >= SEQUENCE_MODULUS // 2:
            distance -= SEQUENCE_MODULUS
        return self._expected + distance

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
            if packet.marker or not self._is_video:
                return sequence + 1
            sequence += 1
            packet = self._packets.get(sequence)
        return None

    def _step_over_lost(self) -> bool:
        """Give up on a gap that has lasted too long. True if it was stepped over."""
        assert self._expected is not None
        missing = self._expected
        while missing in self._packets:
            missing += 1
        later = [sequence for sequence in self._packets if sequence > missing]
        if not later:
            self._gap = None
            return False
        if self._gap is None or self._gap[0] != missing:
            self._gap = (missing, self._now_ms())
        if self._now_ms() - self._gap[1] <= self._give_up_ms:
            return False
        resume = self._resume_after_gap(sorted(later))
        if resume is None:
            return False
        for sequence in [sequence for sequence in self._packets if sequence < resume]:
            del self._packets[sequence]
        self._expected = resume
        self._gap = None
        self.skipped_gaps += 1
        return True

    def _resume_after_gap(self, later: list[int]) -> int | None:
        """Where decoding goes on: the next packet (sound), or the next frame's first packet (video).

        The frame in which the gap ends may lack its beginning, so it is given up with the gap.
        """
        if not self._is_video:
            return later[0]
        torn = self._packets[later[0]].timestamp
        return next((sequence for sequence in later if self._packets[sequence].timestamp != torn), None)
