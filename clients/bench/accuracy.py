"""`gcavt bench accuracy`: every backend and precision that runs here against fp32 PyTorch."""

from __future__ import annotations

import argparse
import sys

from clients.bench.model import precision_of
from clients.bench.report import json_line
from clients.build import FRAMES, BuildRequest, emulated_engines, measured_people, reference_calls
from clients.people import play
from engine.backends.backend import BACKENDS, open_backend
from engine.bundle import Bundle
from engine.errors import BackendMissingError, BundleError, EngineError, GpuError
from trt_build.accuracy import Accuracy, AccuracyError, accuracy_table, compare
from trt_build.flavours import FLAVOURS, Precision
from trt_build.store import EngineStore

EMULATED: tuple[Precision, ...] = ("fp16", "bf16", "int8", "fp8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `gcavt bench accuracy`."""
    parser.add_argument(
        "model", nargs="?", default="lite", help="name or directory of a bundle (default lite)"
    )
    parser.add_argument(
        "--frames",
        type=int,
        default=FRAMES,
        help="frames of rendered and of photographed people each (default %(default)s)",
    )
    parser.add_argument("--backends", help="comma-separated (default: all that run here)")
    parser.add_argument(
        "--emulate", action="store_true", help="also run the graphs of GPU engines, their precision emulated"
    )


def run(args: argparse.Namespace) -> int:
    """Measure and print. Returns 1 if anything is under its threshold, 2 on an error of the user's making."""
    try:
        results = measure(args)
    except (EngineError, AccuracyError, ValueError, OSError) as error:
        sys.stderr.write(f"gcavt bench accuracy: {error}\n")
        return 2
    print(accuracy_table(results))
    print(json_line("accuracy", {"rows": [{"backend": r.name, **r.to_json()} for r in results]}))
    return 0 if all(result.passes for result in results) else 1


def measure(args: argparse.Namespace) -> list[Accuracy]:
    """One result per backend and precision."""
    bundle = Bundle.open(args.model)
    people = measured_people(args.frames)
    reference = reference_calls(bundle, people)
    names = args.backends.split(",") if args.backends else [name for name in BACKENDS if name != "pytorch"]
    results: list[Accuracy] = []
    for name in names:
        try:
            backend = open_backend(name, bundle.directory)
        except (BackendMissingError, GpuError, BundleError) as error:
            if args.backends:
                raise
            sys.stderr.write(f"without {name}: {error.message}\n")
            continue
        if not args.backends and backend.provider in {result.ran_on for result in results}:
            backend.close()  # another name of what the default chose
            continue
        results.append(
            compare(backend, precision_of(backend), reference, play(backend, bundle.manifest, people))
        )
        backend.close()
    for precision in EMULATED if args.emulate else ():
        request = BuildRequest(
            bundle=bundle, flavour=FLAVOURS["rtx"], precision=precision, targets=(), store=EngineStore()
        )
        engines = emulated_engines(request, reference)
        results.append(compare(engines, precision, reference, play(engines, bundle.manifest, people)))
    return results
