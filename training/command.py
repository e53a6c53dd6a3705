"""`gcavt train`: render the data, run a recipe, resume it."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from engine.errors import BadMediaError
from training.recipes import RECIPES, TrainConfig

if TYPE_CHECKING:
    from training.datasets.on_the_fly import FreshTriples

ON_THE_FLY = ("editor", "reposer", "joint", "gan", "editor_gan", "reposer_gan")
"""Objectives that need nothing but triples, so that they can be rendered meanwhile."""
MODELS = ("lite", "paper", "lite_masked", "lite_adain", "tiny")
EPILOG = """
recipes, in the order the shipped model was made:
  editor, reposer             the two halves of the generator, one per core
  surface                     depth, normals and light of the portraits, from --init REPOSER
  joint                       both together, from --init EDITOR --init REPOSER and --init SURFACE
  pose_encoder, expression_encoder, content_encoder, audio_encoder
                              each encoder regressed to exact codes, independent of the generator; the first
                              three from --faces, many people, drawn by python -m training.datasets.faces
  counterfactual              identity, pose, expression and mouth of four people, exact target: generator and
                              image encoders tuned together, from --init JOINT and --init each encoder
  editor_gan, reposer_gan     weak discriminators on mouth and eyes, detail of the right strength; last, from
                              --init JOINT, one per core
  reposer_behind_editor       reposer_gan once more, on what the finished editor makes, from --init of both
  reposer_again               the same without discriminators, where it has something new to learn
other recipes:
  gan                         the same with both halves together
  sync                        the paper's first stage: content and audio encoder agree, by contrast
  self_driven                 the paper's reconstruction, for comparison; any generator (--model paper)
  self_driven_face            the same with the re-poser held as --init brings it (training.comparison)
  distil                      a smaller model (--model) learns from --teacher CHECKPOINT

A run resumes from its folder; Ctrl-C saves and stops. TensorBoard: tensorboard --logdir RUN/events
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("recipe", choices=sorted(RECIPES), help="what to train")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of rendered triples (rendered if missing)"
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of this run: checkpoints and log")
    parser.add_argument(
        "--init",
        type=Path,
        action="append",
        default=[],
        help="checkpoint whose trained parts start this run; may be repeated",
    )
    parser.add_argument("--real", type=Path, help="pseudo-labelled real frames for the image encoders (.npz)")
    parser.add_argument(
        "--faces", type=Path, metavar="DIR", help="many people, from training.datasets.faces: for encoders"
    )
    parser.add_argument("--teacher", type=Path, metavar="CHECKPOINT", help="whom distil learns from")
    parser.add_argument("--model", choices=MODELS, help="sizes of the model (default: the recipe's)")
    parser.add_argument("--steps", type=int, help="optimiser steps in all (default: the recipe's)")
    parser.add_argument("--batch-size", type=int, help="samples per step and process")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        help="of the convolutions (default auto: bf16 where the processor has instructions for it)",
    )
    parser.add_argument("--processes", type=int, default=1, help="data-parallel processes of one thread each")
    parser.add_argument(
        "--identities", type=int, default=252, help="identities to render when the data is missing"
    )
    parser.add_argument(
        "--on-the-fly",
        action="store_true",
        help="train the generator on people rendered meanwhile; --data then serves for evaluation alone",
    )
    parser.add_argument(
        "--render-ahead",
        type=int,
        default=1,
        metavar="N",
        help="processes that render ahead, for each training process (default %(default)s)",
    )
    parser.add_argument(
        "--uses", type=float, default=6.0, help="how often each fresh triple is drawn (default %(default)s)"
    )
    parser.add_argument("--evaluate-every", type=int, default=500, metavar="STEPS")


def run(args: argparse.Namespace) -> int:
    config = _configured(args)
    if args.on_the_fly and config.objective not in ON_THE_FLY:
        raise BadMediaError(f"--on-the-fly is for {', '.join(ON_THE_FLY)}, not for {config.objective}")
    if config.objective not in ("audio", "sync") and not list(args.data.glob("part_*/done.json")):
        from training.datasets.render import TripleCounts, render_triples

        render_triples(args.data, TripleCounts(identities=args.identities), parts=os.cpu_count() or 1)
    if args.processes == 1:
        _train(0, args, config, "")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        in_processes(_train, (args, config, f"file://{folder}/rendezvous"), args.processes)
    return 0


def in_processes(work: Callable[..., None], args: tuple[object, ...], count: int) -> None:
    """Run `work(rank, *args)` in so many processes; told to stop, this one tells them and waits for them."""
    from torch.multiprocessing.spawn import spawn

    running = spawn(work, args, nprocs=count, join=False)  # type: ignore[no-untyped-call]

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in running.processes:
            if process.is_alive():
                os.kill(process.pid, signal.SIGINT)

    previous = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not running.join():
            continue
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _configured(args: argparse.Namespace) -> TrainConfig:
    config = RECIPES[args.recipe]()
    for name in ("steps", "batch_size", "learning_rate", "precision", "model"):
        value = getattr(args, name)
        if value is not None:
            config = replace(config, **{name: value})
    return config


def _train(rank: int, args: argparse.Namespace, config: TrainConfig, rendezvous: str) -> None:
    import torch

    from gcavt.config import GcavtConfig
    from training.objectives.build import build_objective
    from training.trainer import Trainer, model_from, names_of, warn_of_random_parts

    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    if args.processes > 1:
        torch.distributed.init_process_group("gloo", rendezvous, rank=rank, world_size=args.processes)
    model_config: GcavtConfig = getattr(GcavtConfig, config.model)()
    model = model_from(model_config, args.init)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fresh = _fresh(rank, args) if args.on_the_fly else None
    objective = build_objective(
        config,
        model_config,
        args.data,
        triples=fresh,
        fresh_model=None if args.init else model,
        real=args.real,
        teacher=args.teacher,
        faces=args.faces,
    )
    if args.init and rank == 0:
        warn_of_random_parts(model, args.init, names_of(model, list(objective.trained_modules(model))))
    provenance: dict[str, object] = {
        "data": "rendered heads (training.datasets.render)",
        "init": [path.parent.name for path in args.init],
        "real_frames": args.real.name if args.real else None,
        "torch": torch.__version__,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }
    if fresh is None:
        trainer = Trainer(
            model, objective, config, args.run, rank=rank, world=args.processes, provenance=provenance
        )
        trainer.run(evaluate_every=args.evaluate_every)
        return
    from training.datasets.on_the_fly import OnTheFly

    on_the_fly = OnTheFly(objective, fresh)
    provenance["data"] = "rendered heads, on the fly (training.datasets.on_the_fly)"
    try:
        trainer = Trainer(
            model, on_the_fly, config, args.run, rank=rank, world=args.processes, provenance=provenance
        )
        trainer.run(
            evaluate_every=args.evaluate_every,
            before=lambda step: on_the_fly.start(step, config.batch_size),
        )
    finally:
        fresh.close()


def _fresh(rank: int, args: argparse.Namespace) -> FreshTriples:
    """The ring of one training process; each has people of its own."""
    from training.datasets.on_the_fly import FIRST_FRESH_SEED, FreshConfig, FreshRing, FreshTriples

    first_seed = FIRST_FRESH_SEED * (1 + rank)
    config = FreshConfig(processes=args.render_ahead, uses=args.uses, first_seed=first_seed)
    return FreshTriples(args.data, FreshRing(config))
