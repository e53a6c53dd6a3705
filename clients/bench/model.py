"""`gcavt bench model`: every network, and the path of one frame, on every backend that runs here.

All backends take turns on the same inputs, with the machine's own peaks (a matrix product, a memory copy)
among them. The path of a frame is what a live performance computes per picture: heard (audio encoder and
generator) or seen (pose, expression and content encoders, and generator).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import torch

from clients.bench import gpu_sessions, streams
from clients.bench.flops import gflop
from clients.bench.interleaved import Timing, timed_in_turns
from clients.bench.report import json_line, table
from clients.bench.torch_variants import VARIANTS, CompiledPyTorch
from engine.backends.backend import BACKENDS, Backend, open_backend
from engine.bundle import Bundle
from engine.errors import BackendMissingError, BundleError, EngineError, GpuError
from trt_build.specs import EngineSpec, engine_specs
from trt_build.verify import sample_inputs

PATHS: Final = {
    "audio": ("audio_encoder", "generator"),
    "video": ("pose_encoder", "expression_encoder", "content_encoder", "generator"),
}
SESSION_FPS: Final = 25
SESSION_TRIAL_S: Final = 4.0
BATCHES: Final = (1, 2, 4, 8)
GPU_BATCHES: Final = (1, 2, 4, 8, 16, 32)
MATRIX_SIDE: Final = 1024
COPIED_BYTES: Final = 2**27
MB: Final = 2**20
MATRIX, COPY = "matrix product", "memory copy"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to time: a network or a path of a model on a backend."""

    model: str
    backend: str
    precision: str
    batch: int
    threads: int
    network: str | None
    path: str | None
    parts: tuple[str, ...]
    """The networks that are run."""


@dataclass
class OpenedModel:
    """A bundle with the backends that run it."""

    name: str
    directory: Path
    specs: dict[str, EngineSpec]
    gflop: dict[str, float]
    backends: dict[tuple[str, int], Backend] = field(default_factory=dict)
    memory_mb: dict[str, float] = field(default_factory=dict)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `gcavt bench model`."""
    parser.add_argument(
        "models",
        nargs="*",
        default=["lite"],
        metavar="MODEL",
        help="bundles, by name or directory (default lite)",
    )
    parser.add_argument("--backends", help="comma-separated (default: all that run here)")
    parser.add_argument("--rounds", type=int, default=40, help="runs of everything (default %(default)s)")
    parser.add_argument(
        "--streams",
        nargs="?",
        const=",".join(streams.CHOICES),
        metavar="CHOICE,...",
        help="instead: ways to share the cores between networks and sessions, with OpenVINO "
        f"(default: {', '.join(streams.CHOICES)})",
    )
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: all cores)")
    parser.add_argument("--no-scaling", action="store_true", help="leave batches and threads out")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the figures as well")


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    try:
        if args.streams:
            return _compare_streams(args)
        rows, peaks = measure(args)
        sessions = [] if args.no_scaling else _sessions(args.models, rows)
    except (EngineError, ValueError, OSError) as error:
        sys.stderr.write(f"gcavt bench model: {error}\n")
        return 2
    print(report(rows, peaks))
    if sessions:
        print(f"\n{gpu_sessions.report(sessions)}")
    if args.plot:
        from clients.bench.model_plot import draw  # matplotlib is slow to load

        draw(rows, args.plot)
    print(json_line("model", {"rows": rows, "peaks": peaks, "sessions": sessions}))
    return 0


def _compare_streams(args: argparse.Namespace) -> int:
    rows = [
        row
        for name in args.models
        for row in streams.stream_rows(
            Bundle.open(name),
            args.streams.split(","),
            PATHS,
            args.rounds,
        )
    ]
    print(streams.report(rows))
    print(json_line("streams", {"rows": rows}))
    return 0


def measure(args: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows of the JSON line, and the machine's peaks in GFLOP/s and GB/s.

    Raises EngineError: a backend that was asked for does not run here, or a model does not open.
    """
    cores = psutil.cpu_count(logical=True) or 1
    threads = args.threads or cores
    torch.set_num_threads(threads)
    names = args.backends.split(",") if args.backends else None
    models = [_open(Bundle.open(name), names, threads) for name in args.models]
    try:
        rows, peaks = _measured(models, threads, args.rounds)
        if not args.no_scaling:
            for model in models:
                rows += _scaling(model, cores, args.rounds)
    finally:
        for model in models:
            for backend in model.backends.values():
                backend.close()
    return rows, peaks


def _open(bundle: Bundle, names: Sequence[str] | None, threads: int) -> OpenedModel:
    specs = engine_specs(bundle.config)
    files = {name: bundle.directory / entry.file for name, entry in bundle.manifest.networks.items()}
    work = {name: gflop(files[name], spec) for name, spec in specs.items()}
    model = OpenedModel(bundle.name, bundle.directory, specs, work)
    absent: dict[str, list[str]] = {}
    for name in names or BACKENDS:
        before = psutil.Process().memory_info().rss
        try:
            backend = open_backend(name, bundle.directory, threads=threads)
        except (BackendMissingError, GpuError, BundleError) as error:
            if names:
                raise
            absent.setdefault(error.message, []).append(name)
            continue
        if names is None and backend.provider in {opened.provider for opened in model.backends.values()}:
            backend.close()  # another name of what the default chose
            continue
        for network, spec in specs.items():
            backend.run(network, sample_inputs(spec, 1))
        model.backends[name, threads] = backend
        model.memory_mb[name] = (psutil.Process().memory_info().rss - before) / MB
    if names is None and torch.cuda.is_available():
        for variant in VARIANTS:
            allocated = torch.cuda.memory_allocated()
            model.backends[variant, threads] = CompiledPyTorch(bundle.directory, variant)
            model.memory_mb[variant] = (torch.cuda.memory_allocated() - allocated) / MB  # the GPU's
    for message, without in absent.items():
        sys.stderr.write(f"without {', '.join(without)}: {message}\n")
    return model


def precision_of(backend: Backend) -> str:
    """As the backend itself says: the last of fp32, bf16, fp16, int8 and fp8 in its provider."""
    words = backend.provider.replace("f32", "fp32").replace(",", " ").split()
    known = [word for word in words if word in ("fp32", "bf16", "fp16", "int8", "fp8")]
    return known[-1] if known else "fp32"


def _cases(model: OpenedModel) -> list[Case]:
    work: list[tuple[str | None, str | None, tuple[str, ...]]] = [(n, None, (n,)) for n in model.specs]
    work += [(None, path, networks) for path, networks in PATHS.items()]
    return [
        Case(
            model=model.name,
            backend=name,
            precision=precision_of(backend),
            batch=1,
            threads=threads,
            network=network,
            path=path,
            parts=parts,
        )
        for (name, threads), backend in model.backends.items()
        for network, path, parts in work
    ]


def _work(model: OpenedModel, case: Case) -> Callable[[], None]:
    backend = model.backends[case.backend, case.threads]
    feeds = [(name, sample_inputs(model.specs[name], case.batch)) for name in case.parts]

    def run() -> None:
        if case.backend == "pytorch":
            torch.set_num_threads(case.threads)  # one number for the whole process
        for network, inputs in feeds:
            backend.run(network, inputs)

    return run


def _measured(
    models: list[OpenedModel], threads: int, rounds: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    work: dict[Any, Callable[[], object]] = {
        case: _work(model, case) for model in models for case in _cases(model)
    }
    work |= _peak_work()
    timings = timed_in_turns(work, rounds, label="all networks")
    peaks = _peaks(timings, threads)
    by_name = {model.name: model for model in models}
    rows = [_row(by_name[c.model], c, t, peaks) for c, t in timings.items() if isinstance(c, Case)]
    return rows, peaks


def _peak_work() -> dict[str, Callable[[], object]]:
    matrix = torch.rand(MATRIX_SIDE, MATRIX_SIDE)
    product = torch.empty_like(matrix)
    source = np.ones(COPIED_BYTES // 4, np.float32)
    target = np.empty_like(source)
    return {MATRIX: partial(torch.mm, matrix, matrix, out=product), COPY: partial(np.copyto, target, source)}


def _peaks(timings: dict[Any, Timing], threads: int) -> dict[str, float]:
    """Medians, as everything else's: load on the machine then takes the same share of both."""
    product_s, copy_s = (timings[key].percentiles()["wall_p50_ms"] / 1000 for key in (MATRIX, COPY))
    return {
        "gflop_per_s": round(2 * MATRIX_SIDE**3 / 1e9 / product_s, 1),
        "gb_per_s": round(2 * COPIED_BYTES / 1e9 / copy_s, 2),
        "threads": threads,
    }


def _row(model: OpenedModel, case: Case, timing: Timing, peaks: dict[str, float]) -> dict[str, Any]:
    work = case.batch * sum(model.gflop[name] for name in case.parts)
    figures = timing.percentiles()
    reached = work / figures["wall_p50_ms"] * 1000
    return {
        "model": case.model,
        "network": case.network,
        "path": case.path,
        "backend": case.backend,
        "precision": case.precision,
        "batch": case.batch,
        "threads": case.threads,
        **figures,
        "gflop": round(work, 4),
        "gflop_per_s": round(reached, 1),
        "share_of_peak": round(reached / peaks["gflop_per_s"], 3),
        "memory_mb": round(model.memory_mb[case.backend], 1),
    }


# -- scaling -----------------------------------------------------------------------------------------------


def _scaling(model: OpenedModel, cores: int, rounds: int) -> list[dict[str, Any]]:
    """The heard path with larger batches, and with other numbers of threads, taken in turns as well."""
    cases = [
        _audio_case(model, name, threads, batch)
        for (name, threads), backend in model.backends.items()
        for batch in (GPU_BATCHES if _is_gpu(backend) else BATCHES)[1:]
    ]
    for name, threads in list(model.backends):
        if _is_gpu(model.backends[name, threads]):
            continue
        for other in {2**power for power in range(cores.bit_length())} - {threads}:
            model.backends[name, other] = open_backend(name, model.directory, threads=other)
            cases.append(_audio_case(model, name, other, 1))
    work: dict[Any, Callable[[], object]] = {case: _work(model, case) for case in cases}
    timings = timed_in_turns(
        work | _peak_work(), max(3, rounds // 4), label=f"{model.name}: batches and threads"
    )
    peaks = _peaks(timings, cores)
    return [_row(model, case, timings[case], peaks) for case in cases]


def _audio_case(model: OpenedModel, name: str, threads: int, batch: int) -> Case:
    return Case(
        model=model.name,
        backend=name,
        precision=precision_of(model.backends[name, threads]),
        batch=batch,
        threads=threads,
        network=None,
        path="audio",
        parts=PATHS["audio"],
    )


def _is_gpu(backend: Backend) -> bool:
    return "cuda" in backend.provider


def _sessions(models: Sequence[str], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each GPU backend that was timed carries."""
    names = list(
        dict.fromkeys(row["backend"] for row in rows if row["backend"].startswith(("rtx", "tensorrt")))
    )
    return [
        row
        for model in models
        for row in gpu_sessions.session_rows(Bundle.open(model), names, PATHS, SESSION_TRIAL_S)
    ]


def sessions_at_25_fps(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many live sessions each backend carries: the largest batch whose p95 is within a frame's period."""
    found: dict[str, int] = {}
    for row in rows:
        if row["path"] == "audio" and row["wall_p95_ms"] <= 1000 / SESSION_FPS:
            name = f"{row['model']}, {row['backend']} {row['precision']}"
            found[name] = max(found.get(name, 0), row["batch"])
    return found


def report(rows: Sequence[dict[str, Any]], peaks: dict[str, float]) -> str:
    """Tables for people."""
    headings = [
        "",
        "batch",
        "threads",
        "wall p50",
        "p95",
        "p99",
        "CPU p50",
        "GFLOP",
        "GFLOP/s",
        "of peak",
        "MB",
    ]
    cells = [
        [
            f"{row['model']} {row['network'] or row['path'] + ' path'}, {row['backend']} {row['precision']}",
            row["batch"],
            row["threads"],
            row["wall_p50_ms"],
            row["wall_p95_ms"],
            row["wall_p99_ms"],
            row["cpu_p50_ms"],
            row["gflop"],
            row["gflop_per_s"],
            f"{row['share_of_peak']:.0%}",
            row["memory_mb"],
        ]
        for row in rows
    ]
    sessions = sessions_at_25_fps(rows)
    lines = [
        table(headings, cells),
        f"\npeak: {peaks['gflop_per_s']:g} GFLOP/s in a matrix product, {peaks['gb_per_s']:g} GB/s copied",
        *(f"sessions at {SESSION_FPS} fps, p95 within a frame: {name}: {n}" for name, n in sessions.items()),
    ]
    return "\n".join(lines)
