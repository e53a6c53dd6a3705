import pytest

from engine.clock import MediaClock
from engine.metrics import (
    BatchFigures,
    FrameRate,
    PerformanceMetrics,
    StageTimes,
    percentiles,
    prometheus_text,
)

MS = 1_000_000


class ManualClock(MediaClock):
    def __init__(self) -> None:
        self.time_ns = 0

    def now_ns(self) -> int:
        return self.time_ns


def test_percentiles_are_of_the_last_window_only() -> None:
    stages = StageTimes(ManualClock(), window=100)
    for _ in range(50):
        stages.add("track", 900 * MS)
    for duration_ms in range(1, 101):
        stages.add("track", duration_ms * MS)
    assert stages.percentiles_ms()["track"] == {"p50": 50.5, "p95": 95.05, "p99": 99.01}


def test_a_measured_block_counts_its_duration() -> None:
    clock = ManualClock()
    stages = StageTimes(clock)
    with stages.measure("generate"):
        clock.time_ns += 12 * MS
    assert stages.values_ms("generate") == [12.0]


def test_a_block_that_raises_is_not_counted() -> None:
    stages = StageTimes(ManualClock())
    with pytest.raises(ZeroDivisionError), stages.measure("generate"):
        raise ZeroDivisionError
    assert stages.values_ms("generate") == []


def test_nothing_measured_gives_no_percentiles() -> None:
    assert percentiles([]) == {}


def test_frame_rate_forgets_what_is_older_than_its_span() -> None:
    clock = ManualClock()
    rate = FrameRate(clock, span_s=2.0)
    for _ in range(100):
        clock.time_ns += 40 * MS
        rate.count()
    assert rate.fps() == pytest.approx(25, abs=0.5)
    clock.time_ns += 3000 * MS
    assert rate.fps() == 0


def test_metrics_of_all_sessions_come_as_prometheus_text() -> None:
    clock = ManualClock()
    sessions = {name: PerformanceMetrics.started(clock) for name in ("a", "b")}
    for metrics in sessions.values():
        metrics.frames = 10
        metrics.dropped = {"late": 2}
        metrics.stages.add("generate", 20 * MS)
    lines = prometheus_text(sessions, finished_frames=5).splitlines()
    assert "gcavt_sessions 2" in lines
    assert "gcavt_frames_total 25" in lines
    assert 'gcavt_dropped_total{place="late"} 4' in lines
    assert 'gcavt_stage_ms{stage="generate",quantile="0.50"} 20' in lines


def test_a_stage_that_begins_while_the_others_are_told_does_no_harm() -> None:
    class Busy(StageTimes):
        def values_ms(self, stage: str) -> list[float]:
            self.add("generate", 1)  # as the generating thread may
            return super().values_ms(stage)

    times = Busy(MediaClock())
    times.add("track", 2_000_000)
    assert set(times.percentiles_ms()) == {"track"}
    assert set(times.percentiles_ms()) == {"track", "generate"}


def test_batches_are_told_beside_the_sessions() -> None:
    figures = BatchFigures(runs={1: 7, 3: 2}, errors=1, busy_share=0.25, occupancy=0.8, waits_ms=[2.0])
    lines = prometheus_text({}, batches=figures).splitlines()
    assert 'gcavt_batches_total{pictures="3"} 2' in lines
    assert "gcavt_batch_errors_total 1" in lines
    assert "gcavt_batch_busy 0.25" in lines
    assert "gcavt_batch_occupancy 0.8" in lines
    assert 'gcavt_batch_wait_ms{quantile="0.50"} 2' in lines
