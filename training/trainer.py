"""One loop for every recipe: batches, steps, moving average, checkpoints, resume, data-parallel processes.

On a CPU one thread per process and two processes beat two threads (see LOG.md), so gradients are averaged
over processes with gloo. A run folder holds `last.safetensors` (the moving average, which is what ships),
`state.pt` (weights, optimiser, step) and `log.jsonl`; TensorBoard reads `events`.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from gcavt.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from gcavt.config import GcavtConfig
from gcavt.model import Gcavt
from training.objectives.objective import Objective
from training.precision import bf16_convolutions, is_bf16_fast
from training.recipes import TrainConfig

logger = logging.getLogger(__name__)

SAVE_EVERY_S = 240.0
FIGURES_EVERY_STEPS = 50


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, hold, then a cosine down to final_rate_share of the peak."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    progress = step / config.steps
    if progress < config.hold_share:
        return config.learning_rate * warm
    angle = math.pi * (progress - config.hold_share) / max(1 - config.hold_share, 1e-9)
    low = config.final_rate_share
    return config.learning_rate * warm * (low + (1 - low) * 0.5 * (1 + math.cos(min(angle, math.pi))))


class Trainer:
    """Runs one recipe in one process of `world` processes."""

    def __init__(
        self,
        model: Gcavt,
        objective: Objective,
        config: TrainConfig,
        folder: Path,
        *,
        rank: int = 0,
        world: int = 1,
        provenance: dict[str, Any] | None = None,
    ) -> None:
        self.model, self.objective, self.config = model, objective, config
        self.folder, self.rank, self.world = folder, rank, world
        self.provenance = provenance or {}
        modules = list(objective.trained_modules(model))
        self.parameters = [p for m in modules for p in m.parameters()]
        self.trained = sorted(names_of(model, modules))
        inside = set(model.modules())
        self.own = nn.ModuleList(m for m in modules if m not in inside)
        """What the objective trains beside the model: a discriminator, a temperature. It does not ship."""
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.is_bf16 = config.precision == "bf16" or (config.precision == "auto" and is_bf16_fast())
        self.average = copy.deepcopy(model).eval()
        self.step = 0
        self.cpu_s = 0.0
        self.stopping = False

    def run(
        self,
        *,
        until_step: int | None = None,
        evaluate_every: int = 500,
        before: Callable[[int], None] | None = None,
    ) -> dict[str, float]:
        """Train to the last step (or `until_step`), resuming from the folder; returns the last figures.

        `before` is called once with the step at which this run takes up.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        if before is not None:
            before(self.step)
        last = min(until_step or self.config.steps, self.config.steps)
        rng = np.random.default_rng((self.config.seed, self.rank, self.step))
        torch.manual_seed(self.config.seed + 1000 * self.rank + self.step)
        previous = signal.signal(signal.SIGINT, self._stop)
        saved = time.monotonic()
        figures: dict[str, float] = {}
        recent: list[dict[str, float]] = []
        bar = tqdm(total=last, initial=self.step, desc=self.config.name, disable=self.rank > 0, mininterval=5)
        try:
            with SummaryWriter(self.folder / "events") if self.rank == 0 else _NoWriter() as writer:
                while self.step < last and not self.stopping:
                    recent.append(self._train_step(rng))
                    bar.update(1)
                    if self.rank == 0 and self.step % FIGURES_EVERY_STEPS == 0:
                        self._log(writer, "train", _mean(recent))
                        recent = []
                    if self.rank == 0 and (self.step % evaluate_every == 0 or self.step == last):
                        figures = self.evaluate()
                        self._log(writer, "eval", figures)
                    if time.monotonic() - saved > SAVE_EVERY_S:
                        self._save()
                        saved = time.monotonic()
        finally:
            bar.close()
            signal.signal(signal.SIGINT, previous)
        self._save()
        return figures

    def evaluate(self) -> dict[str, float]:
        """The objective's figures for the moving average."""
        with torch.no_grad():
            return self.objective.evaluate(self.average)

    def _train_step(self, rng: np.random.Generator) -> dict[str, float]:
        started = time.process_time()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.config)
        self.model.train()
        batch = self.objective.draw(rng, self.config.batch_size)
        with bf16_convolutions(self.model) if self.is_bf16 else nullcontext():
            loss, figures = self.objective.loss(self.model, batch)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        if self.world > 1:
            self._average_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.step += 1
        self._update_average()
        self.cpu_s += time.process_time() - started
        return {"loss": float(loss.detach()), "grad_norm": float(norm), **figures}

    def _average_gradients(self) -> None:
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        stop = torch.tensor([float(self.stopping)])
        flat = torch.cat([flat, stop])
        dist.all_reduce(flat)
        self.stopping = bool(flat[-1] > 0)
        flat /= self.world
        offset = 0
        for parameter in self.parameters:
            count = parameter.numel()
            # laid out in memory as the parameter is: the fused optimiser goes through both as they lie
            mean = torch.empty_like(parameter)
            parameter.grad = mean.copy_(flat[offset : offset + count].view_as(parameter))
            offset += count

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema_decay, (self.step + 1) / (self.step + 10))
        mine, theirs = list(self.average.parameters()), list(self.model.parameters())
        torch._foreach_lerp_(tuple(mine), tuple(theirs), 1 - decay)
        for kept, new in zip(self.average.buffers(), self.model.buffers(), strict=True):
            kept.copy_(new)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def _log(self, writer: Any, kind: str, figures: dict[str, float]) -> None:
        line = {"kind": kind, "step": self.step, "cpu_s": round(self.cpu_s, 1)}
        line |= {key: round(value, 4) for key, value in figures.items()}
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        for key, value in figures.items():
            writer.add_scalar(f"{kind}/{key}", value, self.step)
        tqdm.write(json.dumps(line))

    def _save(self) -> None:
        if self.rank > 0:
            return
        state: dict[str, Any] = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        state |= {"average": self.average.state_dict(), "own": self.own.state_dict()}
        state |= {"step": self.step, "cpu_s": self.cpu_s}
        partial = self.folder / "state.pt.partial"
        torch.save(state, partial)
        os.replace(partial, self.folder / "state.pt")
        origin = self.provenance | {
            "recipe": asdict(self.config),
            "step": self.step,
            "cpu_s_per_process": round(self.cpu_s, 1),
            "processes": self.world,
            "trained": self.trained,
        }
        save_checkpoint(self.folder / "last.safetensors", self.average, self.model.config, origin)

    def _resume(self) -> None:
        path = self.folder / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.own.load_state_dict(state.get("own", {}))  # runs that began without any have none
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.cpu_s = state["step"], state["cpu_s"]


class _NoWriter:
    def __enter__(self) -> _NoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def add_scalar(self, *_: object) -> None:
        return None


def _mean(figures: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([f[key] for f in figures])) for key in figures[0]}


def names_of(model: nn.Module, modules: list[nn.Module]) -> list[str]:
    wanted = {id(m) for m in modules}
    return [name for name, module in model.named_modules() if id(module) in wanted]


def model_from(config: GcavtConfig, checkpoints: list[Path]) -> Gcavt:
    """A new model with the parts that each checkpoint's run has trained, later ones winning."""
    model = Gcavt(config)
    for path in checkpoints:
        checkpoint = read_checkpoint(path)
        chosen = {k: v.float() for k, v in checkpoint.tensors.items() if k.startswith(_brought(checkpoint))}
        model.load_state_dict(chosen, strict=False)
    return model


def _brought(checkpoint: Checkpoint) -> tuple[str, ...]:
    """How the names start of what a checkpoint's run has trained."""
    return tuple(f"{name}." for name in checkpoint.provenance.get("trained", [])) or ("",)


def warn_of_random_parts(model: nn.Module, checkpoints: list[Path], trained: list[str]) -> None:
    """Log it when something computes with weights that no checkpoint has brought and this run does not train.

    A run's checkpoint holds the whole model but brings only what that run has trained: the rest, such as the
    portrait's light for a re-poser, has to come from its own.
    """
    brought = tuple(f"{name}." for name in trained)
    for path in checkpoints:
        brought += _brought(read_checkpoint(path))
    warned: set[str] = set()

    def warn(name: str, *_: object) -> None:
        if name not in warned:
            logger.warning("%s has random weights: no --init brings it, this run does not train it", name)
            warned.add(name)

    for name, module in _random_parts(model, "", brought):
        module.register_forward_pre_hook(partial(warn, name))


def _random_parts(module: nn.Module, path: str, brought: tuple[str, ...]) -> Iterator[tuple[str, nn.Module]]:
    """The largest parts of which nothing is brought."""
    names = [f"{path}{name}" for name, _ in module.named_parameters()]
    if names and not any(name.startswith(brought) for name in names):
        yield path.removesuffix("."), module
        return
    for name, child in module.named_children():
        yield from _random_parts(child, f"{path}{name}.", brought)
