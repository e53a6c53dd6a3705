from engine.rtc.frame_assembler import FrameAssembler
from tests.engine.rtc.scripted import Clock, Packet


def video(clock: Clock | None = None, capacity: int = 512) -> FrameAssembler:
    return FrameAssembler(give_up_ms=150, now_ms=clock or Clock(0), capacity=capacity)


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


def test_a_sender_that_sets_no_marker_ends_its_frames_with_the_next_one() -> None:
    assembler = video()
    for packet in frame_packets(0, 10):
        packet.marker = 0
        assert assembler.add(packet).frames == []
    (frame,) = assembler.add(Packet(13, 3600)).frames
    assert frame.data == b"000102"


def test_a_lost_marker_packet_is_waited_for() -> None:
    assembler = video()
    first, second, last = frame_packets(0, 10)
    released = [assembler.add(packet).frames for packet in (first, second, *frame_packets(1, 13))]
    assert not any(released)
    assert [frame.data for frame in assembler.add(last).frames] == [b"000102", b"101112"]


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


def test_a_gap_across_the_wrap_is_mended_by_a_retransmission() -> None:
    assembler = video()
    packets = [packet for index in range(2) for packet in frame_packets(index, 65532 + 3 * index)]
    missing = packets.pop(4)  # sequence number 0
    assert missing.sequence_number == 0
    for packet in packets:
        assembler.add(packet)
    assert [frame.data for frame in assembler.add(missing).frames] == [b"101112"]


def test_a_gap_is_waited_for_and_then_stepped_over_as_torn() -> None:
    clock = Clock(0)
    assembler = video(clock)
    packets = [packet for index in range(12) for packet in frame_packets(index, 10 + 3 * index)]
    del packets[4]  # the middle of frame 1 never comes
    shown, torn = [], []
    for packet in packets:
        clock.now = packet.timestamp / 90
        result = assembler.add(packet)
        shown += [(frame.timestamp // 3600, clock.now) for frame in result.frames]
        torn += [clock.now] * result.is_torn
    assert shown[0] == (0, 0.0)
    assert 1 not in [index for index, _ in shown]
    assert shown[1] == (2, 200.0)
    assert [index for index, _ in shown][-1] == 11
    assert torn == [200.0]
    assert assembler.skipped_gaps == 1


def test_a_gap_is_stepped_over_by_the_clock_where_no_packet_comes() -> None:
    clock = Clock(0)
    assembler = video(clock)
    packets = [packet for index in range(3) for packet in frame_packets(index, 10 + 3 * index)]
    del packets[4]
    for packet in packets:
        assembler.add(packet)
    assert assembler.give_up_at_ms == 150
    clock.now = 149
    assert assembler.step_over_lost().frames == []
    clock.now = 150
    stepped = assembler.step_over_lost()
    assert ([frame.timestamp for frame in stepped.frames], stepped.is_torn) == ([7200], True)
    assert assembler.give_up_at_ms is None


def test_an_overdue_gap_with_nothing_whole_behind_it_asks_for_no_timer() -> None:
    clock = Clock(0)
    assembler = video(clock)
    first, _, last = frame_packets(0, 10)
    assembler.add(first)
    assembler.add(last)
    clock.now = 500
    assert not assembler.step_over_lost().is_torn
    assert assembler.give_up_at_ms is None


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
    assert any(result.is_torn for result in results)


def test_padding_alone_makes_no_frame() -> None:
    assembler = video()
    for packet in frame_packets(0, 10):
        assembler.add(packet)
    assert assembler.add(Packet(13, 0, _data=b"")).frames == []
    frames = [frame for packet in frame_packets(1, 14) for frame in assembler.add(packet).frames]
    assert [frame.data for frame in frames] == [b"101112"]


def test_what_is_held_back_is_bounded() -> None:
    assembler = FrameAssembler(give_up_ms=1e9, now_ms=Clock(0), capacity=64)
    assembler.add(Packet(0, 0, marker=1))
    held = [assembler.add(Packet(2 + i, 3600 * (1 + i // 3), int(i % 3 == 2))) for i in range(200)]
    assert sum(result.is_torn for result in held) == 1
    assert any(result.frames for result in held[-3:])  # after giving up it flows again
    assert len(assembler._packets) <= 64
