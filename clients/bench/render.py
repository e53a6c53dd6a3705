"""`gcavt bench render`: synthetic people drawn a second, by the compiled renderer and by torch.

Every core draws a person of its own, all at the same time, as when a data set is rendered; then torch draws
some of the same pictures in one batch, on the GPU where there is one. The two take turns, person by person.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from clients.bench.interleaved import Timing
from clients.bench.report import json_line, table
from training.synthetic.renderer import Renderer

FIRST_SEED = 40_000
WARM_UP_FRAMES = 3
START_TOGETHER_S = 300
"""Within which every process must be ready to draw: the first compiles the renderer."""
SUPERSAMPLING = 2

Floats = NDArray[np.float32]


@dataclass
class Drawn:
    """What one process measured."""

    person_s: float
    """Until the person could be drawn."""
    elapsed_s: float
    """From the common start to its last picture."""
    timing: Timing = field(default_factory=Timing)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.add_argument(
        "--people", type=int, default=6, help="people that every core draws (default %(default)s)"
    )
    parser.add_argument("--frames", type=int, default=60, help="of each person (default %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="side in pixels (default %(default)s)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: cores")
    parser.add_argument(
        "--torch-frames",
        type=int,
        default=2,
        help="that torch draws of each person, 0: leave it out (default %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(args.processes)
    rounds: list[list[Drawn]] = []
    by_torch = Timing()
    with context.Pool(args.processes, initializer=_prepare, initargs=(together,)) as pool:
        for number in tqdm(range(args.people), desc="drawing", unit="person"):
            seeds = [FIRST_SEED + number * args.processes + process for process in range(args.processes)]
            tasks = [(seed, args.frames, args.size) for seed in seeds]
            rounds.append(pool.starmap(draw, tasks, chunksize=1))
            if args.torch_frames:
                _draw_by_torch(seeds[0], args.torch_frames, args.size, by_torch)
    ours = _summary([drawn.timing for drawn in sum(rounds, [])])
    ours["fps"] = _median([together_fps(drawn, args.frames) for drawn in rounds])
    ours["person_s"] = _median([drawn.person_s for drawn in sum(rounds, [])])
    values: dict[str, Any] = {"ours": ours, "processes": args.processes, "size_px": args.size}
    values |= {"people": args.people, "frames": args.frames, "supersampling": SUPERSAMPLING}
    if by_torch.wall_ms:
        values["torch"] = {"device": _torch_device(), "frames_at_once": args.torch_frames}
        values["torch"] |= _summary([by_torch])
    _print_report(values)
    print(json_line("render", values))
    return 0


def draw(seed: int, frames: int, size_px: int) -> Drawn:
    """Draw one person, starting when every process is ready to."""
    began_s = time.perf_counter()
    renderer = renderer_of(seed, size_px)
    person_s = time.perf_counter() - began_s
    weights, poses = performance(renderer, seed, WARM_UP_FRAMES + frames)
    for number in range(WARM_UP_FRAMES):
        renderer.render(weights[number], poses[number])
    _together.wait(START_TOGETHER_S)
    drawn = Drawn(person_s, 0.0)
    began_s = time.perf_counter()
    for number in range(WARM_UP_FRAMES, WARM_UP_FRAMES + frames):
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        renderer.render(weights[number], poses[number])
        drawn.timing.wall_ms.append(1000 * (time.perf_counter() - wall_s))
        drawn.timing.cpu_ms.append(1000 * (time.process_time() - cpu_s))
    drawn.elapsed_s = time.perf_counter() - began_s
    return drawn


def renderer_of(seed: int, size_px: int) -> Renderer:
    from training.synthetic.identity import Identity, Scene

    return Renderer(Identity(seed), Scene.from_seed(seed), size_px=size_px, supersampling=SUPERSAMPLING)


def performance(renderer: Renderer, seed: int, frames: int) -> tuple[Floats, Floats]:
    """Coefficients (frames, 52) and poses (frames, 6), as training draws them."""
    from training.datasets.render import draw_pose, placement
    from training.synthetic.performance import random_expression, random_mouth

    rng = np.random.default_rng(seed)
    place = np.concatenate([np.zeros(3, np.float32), placement(renderer)])
    weights = [np.clip(random_expression(rng) + random_mouth(rng), 0, 1) for _ in range(frames)]
    poses = [place + draw_pose(rng) for _ in range(frames)]
    return np.stack(weights).astype(np.float32), np.stack(poses).astype(np.float32)


def together_fps(drawn: Sequence[Drawn], frames: int) -> float:
    """Pictures a second by all processes, while all of them drew."""
    return sum(frames / one.elapsed_s for one in drawn)


def _prepare(together: Barrier) -> None:
    global _together
    _together = together


_together: Barrier


def _draw_by_torch(seed: int, frames: int, size_px: int, timing: Timing) -> None:
    """Adds the time of each picture; the first batch warms up."""
    import torch

    from training.synthetic.torch_renderer import TorchRenderer

    renderer = renderer_of(seed, size_px)
    weights, poses = performance(renderer, seed, frames)
    on_device = TorchRenderer(renderer, _torch_device())
    for is_measured in (False, True):
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        on_device.render(weights, poses).image_BSS3.cpu()
        if is_measured:
            timing.wall_ms.append(1000 * (time.perf_counter() - wall_s) / frames)
            timing.cpu_ms.append(1000 * (time.process_time() - cpu_s) / frames)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _torch_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _summary(timings: Sequence[Timing]) -> dict[str, float]:
    joined = Timing(sum((t.wall_ms for t in timings), []), sum((t.cpu_ms for t in timings), []))
    return joined.percentiles()


def _median(values: Sequence[float]) -> float:
    return round(float(np.median(values)), 2)


def _print_report(values: dict[str, Any]) -> None:
    rows = []
    for name in ("ours", "torch"):
        if name in values:
            found = values[name]
            label = (
                f"compiled, {values['processes']} at once" if name == "ours" else f"torch, {found['device']}"
            )
            rows.append([label, *(found[f"wall_p{q}_ms"] for q in (50, 95, 99)), found["cpu_p50_ms"]])
    size = values["size_px"]
    print(table([f"ms a picture of {size} x {size}", "p50", "p95", "p99", "CPU p50"], rows))
    fps, person_s = (values["ours"][name] for name in ("fps", "person_s"))
    print(f"\n{fps} pictures a second by all processes together; a new person takes {person_s} s.\n")
