"""Times of several workloads taken in turns: whatever else the machine does meets all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

WARM_UP_RUNS = 3


@dataclass
class Timing:
    """Wall and processor milliseconds of every run; processor time is that of all threads of this process."""

    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def percentiles(self) -> dict[str, float]:
        """Such as wall_p50_ms."""
        found = {}
        for name, values in (("wall", self.wall_ms), ("cpu", self.cpu_ms)):
            for quantile in (50, 95, 99):
                found[f"{name}_p{quantile}_ms"] = round(float(np.percentile(values, quantile)), 3)
        return found


def timed_in_turns(work: Mapping[Any, Callable[[], object]], rounds: int, *, label: str) -> dict[Any, Timing]:
    """Every workload once per round, each round in another order, after warming up. Seeded."""
    for run in work.values():
        for _ in range(WARM_UP_RUNS):
            run()
    timings = {key: Timing() for key in work}
    rng = np.random.default_rng(0)
    keys: Sequence[Any] = list(work)
    for _ in tqdm(range(rounds), desc=label, unit="round"):
        for index in rng.permutation(len(keys)):
            cpu_s, wall_s = time.process_time(), time.perf_counter()
            work[keys[index]]()
            timings[keys[index]].wall_ms.append(1000 * (time.perf_counter() - wall_s))
            timings[keys[index]].cpu_ms.append(1000 * (time.process_time() - cpu_s))
    return timings
