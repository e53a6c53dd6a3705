from dataclasses import dataclass

from engine.rtc.frame_assembler import FrameAssembler


@dataclass
class Packet:
    sequence_number: int
    timestamp: int
    marker: int = 0
    payload_type: int = 97
    _data: bytes = b"x"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def video(clock: Clock | None = None) -> FrameAssembler:
    return FrameAssembler(is_video=True, give_up_ms=150, now_ms=clock or Clock())


def frame_packets(index: int, first_sequence: int, count: int = 3) -> list[Packet]:
    return [
        Packet((first_sequence + i) % 65536, index * 3600, int(i == count - 1), _data=f"{index}{i}".encode())
        for i in range(count)
    ]


def test_a_frame_ends_at_its_marker_and_not_at_the_next_frame() -> None:
    assembler = video()
    first, second, last = frame_packets(0, 10)
    assert assembler.add(first).frames == []
    assert assembler.add(second).frames == []
    (frame,) = assembler.add(last).frames
    assert (frame.data, frame.timestamp) == (b"000102", 0)


def test_a_lost_marker_ends_the_frame_with_the_next_one() -> None:
    assembler = video()
    for packet in frame_packets(0, 10):
        packet.marker = 0
        assert assembler.add(packet).frames == []
    (frame,) = assembler.add(Packet(13, 3600)).frames
    assert frame.data == b"000102"


def test_packets_out_of_order_are_put_in_order() -> None:
    assembler = video()
    first, second, last = frame_packets(0, 10)
    assembler.add(first)
    assert assembler.add(last).frames == []
    (frame,) = assembler.add(second).frames
    assert frame.data == b"000102"


def test_a_retransmitted_packet_releases_everything_that_waited() -> None:
    assembler = video()
    packets = [packet for index in range(4) for packet in frame_packets(index, 10 + 3 * index)]
    missing = packets.pop(4)
    frames = [frame for packet in packets for frame in assembler.add(packet).frames]
    assert [frame.timestamp for frame in frames] == [0]
    assert [frame.timestamp for frame in assembler.add(missing).frames] == [3600, 7200, 10800]


def test_sequence_numbers_may_wrap_within_a_frame() -> None:
    assembler = video()
    frames = [f for packet in frame_packets(7, 65534) for f in assembler.add(packet).frames]
    assert [frame.data for frame in frames] == [b"707172"]


def test_a_gap_is_waited_for_and_then_stepped_over_with_a_key_frame_asked_for() -> None:
    clock = Clock()
    assembler = video(clock)
    packets = [packet for index in range(12) for packet in frame_packets(index, 10 + 3 * index)]
    del packets[4]  # the middle of frame 1 never comes
    shown, asked = [], []
    for packet in packets:
        clock.now = packet.timestamp / 90
        result = assembler.add(packet)
        shown += [(frame.timestamp // 3600, clock.now) for frame in result.frames]
        asked += [clock.now] * result.wants_keyframe
    assert shown[0] == (0, 0.0)
    assert 1 not in [index for index, _ in shown]
    assert shown[1][1] - 40 <= 150 + 40
    assert [index for index, _ in shown][-1] == 11
    assert asked == [shown[1][1]]
    assert assembler.skipped_gaps == 1


def test_late_and_duplicate_packets_are_ignored() -> None:
    assembler = video()
    packets = frame_packets(0, 10) + frame_packets(1, 13)
    frames = [frame for packet in packets for frame in assembler.add(packet).frames]
    assert len(frames) == 2
    assert assembler.add(packets[1]).frames == []


def test_a_sender_that_starts_over_is_followed_at_once() -> None:
    assembler = video()
    for packet in frame_packets(0, 40000):
        assembler.add(packet)
    results = [assembler.add(packet) for packet in frame_packets(9, 100)]
    assert [frame.timestamp for result in results for frame in result.frames] == [32400]
    assert any(result.wants_keyframe for result in results)


def test_padding_alone_makes_no_frame() -> None:
    assembler = video()
    for packet in frame_packets(0, 10):
        assembler.add(packet)
    assert assembler.add(Packet(13, 0, _data=b"")).frames == []
    frames = [frame for packet in frame_packets(1, 14) for frame in assembler.add(packet).frames]
    assert [frame.data for frame in frames] == [b"101112"]


def test_what_is_held_back_is_bounded() -> None:
    assembler = FrameAssembler(is_video=True, give_up_ms=1e9, now_ms=Clock(), capacity=64)
    assembler.add(Packet(0, 0, marker=1))
    held = [assembler.add(Packet(2 + i, 3600 * (1 + i // 3))) for i in range(200)]
    assert sum(result.wants_keyframe for result in held) == 1
    assert held[-2].frames  # after giving up it flows again
    assert len(assembler._packets) <= 64


def test_every_sound_packet_is_a_frame_at_once() -> None:
    assembler = FrameAssembler(is_video=False, give_up_ms=60, now_ms=Clock())
    released = [assembler.add(Packet(i, 960 * i)).frames for i in range(3)]
    assert [len(frames) for frames in released] == [1, 1, 1]


def test_lost_sound_does_not_delay_what_follows_for_good() -> None:
    clock = Clock()
    assembler = FrameAssembler(is_video=False, give_up_ms=60, now_ms=clock)
    delays = []
    for index in range(50):
        clock.now = 20.0 * index
        if index != 10:
            result = assembler.add(Packet(index, 960 * index))
            assert not result.wants_keyframe
            delays += [clock.now - frame.timestamp / 48 for frame in result.frames]
    assert max(delays) <= 80
    assert delays[-1] == 0
