"""Sessions on one device, played for real on the CPU with a tiny model; the search by scripted trials."""

from __future__ import annotations

import pytest

from clients.bench.gpu_sessions import Load, Trial, most_in_time, report, session_rows
from engine.backends.backend import open_backend
from engine.bundle import Bundle
from tests.bundles import TinyBundles
from trt_build.specs import engine_specs


def trial(sessions: int, *, carries: int) -> Trial:
    p95_ms = 30.0 if sessions <= carries else 50.0
    return Trial(sessions=sessions, p50_ms=10, p95_ms=p95_ms, fps=25, pictures_per_run=1)


@pytest.mark.parametrize("carries", [0, 1, 2, 5, 32, 100])
def test_the_most_sessions_in_time_are_found(carries: int) -> None:
    trials = most_in_time(lambda count: trial(count, carries=carries), most=64)
    assert max((t.sessions for t in trials if t.is_in_time), default=0) == min(carries, 64)
    assert len(trials) <= 12


def test_pictures_that_do_not_come_count_as_late() -> None:
    assert not Trial(sessions=1, p50_ms=10, p95_ms=20, fps=20, pictures_per_run=1).is_in_time


def test_sessions_are_played_through_the_batcher(tiny_bundles: TinyBundles) -> None:
    bundle = Bundle.open(tiny_bundles.path("edit_repose"))
    encoding, generating = (open_backend("onnxruntime", bundle.directory, threads=1) for _ in range(2))
    load = Load(encoding, generating, engine_specs(bundle.config), ["audio_encoder"], largest=4, readers=2)
    played = load.play(3, 0.6)
    load.close()
    assert played.sessions == 3
    assert 0 < played.p50_ms <= played.p95_ms
    assert 0 < played.fps <= 25
    assert played.pictures_per_run >= 1


def test_rows_tell_every_trial(tiny_bundles: TinyBundles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.bench.gpu_sessions.MOST", 2)
    bundle = Bundle.open(tiny_bundles.path("edit_repose"))
    (row,) = session_rows(bundle, ["onnxruntime"], {"audio": ("audio_encoder", "generator")}, 0.2)
    assert row["sessions"] <= len(row["trials"])
    assert "by audio, onnxruntime" in report([row])
