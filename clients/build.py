"""`gcavt build`: a bundle's networks -> TensorRT engines in the engine store, measured before let in."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from tqdm import tqdm

from clients.bench.report import table
from clients.people import Person, play
from clients.photographed_people import photographed_people
from clients.rendered_people import render_people
from engine.backends.backend import open_backend
from engine.bundle import Bundle
from engine.errors import EngineError, GpuError
from trt_build.accuracy import (
    LEAST_PSNR_DB,
    Accuracy,
    AccuracyError,
    Call,
    Difference,
    EmulatedEngines,
    accuracy_table,
    compare,
    frames_of,
)
from trt_build.engine_builder import BuiltEngine, EngineBuildError, build_engine
from trt_build.flavours import (
    FLAVOURS,
    ComputeCapability,
    Flavour,
    FlavourMissingError,
    Precision,
    parse_targets,
    targets_text,
)
from trt_build.inspection import InspectionError, check_report
from trt_build.manifest import CHECKPOINT_NAME
from trt_build.precision import PRODUCTS, typed_graph
from trt_build.quantise import quantiser
from trt_build.specs import ONCE_PER_IDENTITY, EngineSpec, engine_specs
from trt_build.store import DEFAULT_ROOT, EngineKey, EngineSet, EngineStore, StoreError

FRAMES = 24
MARGIN_DB = 3.0
"""A mixture of int8 and full precision keeps so far from its threshold, for faces that nobody measured."""
LEAST_OUTPUT_DB = 40.0
"""Of a network's own output, to be computed in int8 on a CPU. What encoders lose trembles from frame to frame
and hardly shows in one picture: at 28 to 32 dB lips and lids followed real faces by .92 and .93, not .94."""
GRAPH_PSNR_DB = 50.0
"""An exported network is at least so near to its module; far less means that one of the two is older."""
NOT_RUN = "The engines are built and inspected, not run. To measure them, run this on the GPU they are for."
ENGINE_PRECISIONS: tuple[Precision, ...] = ("fp16", "bf16", "fp8", "int8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `gcavt build`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Build TensorRT engines of a model's networks.\n\n"
        "rtx: TensorRT for RTX. Builds anywhere, a GPU is not needed; the engines run on GeForce RTX and\n"
        "  RTX cards of the compute capabilities named by --target (8.9: RTX 40, 12.0: RTX 50).\n"
        "tensorrt: TensorRT for data centres. Builds on and for the GPU of this machine.\n"
        "openvino: --precision int8 for the CPU, kept for networks that it makes 1.15 times faster.\n\n"
        "The networks are first run in the chosen precision on rendered and photographed people and\n"
        "compared with fp32 PyTorch: under 40 dB (fp16, bf16) or 35 dB (int8, fp8) of the final picture\n"
        "nothing is built.\n"
        "Where there is a GPU, the engines themselves must pass the same."
    )
    parser.epilog = "example:\n  gcavt build --flavour rtx --target 8.9\n  gcavt serve --backend rtx"
    parser.add_argument(
        "model",
        nargs="?",
        default="lite",
        metavar="MODEL",
        help="name or directory of a bundle (default lite)",
    )
    parser.add_argument("--flavour", choices=tuple(FLAVOURS), default="rtx", help="default %(default)s")
    parser.add_argument("--precision", choices=ENGINE_PRECISIONS, default="fp16", help="default %(default)s")
    parser.add_argument(
        "--target", metavar="CC,CC", help="compute capabilities (default: 8.9,12.0 for rtx, else this GPU's)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"directory of the engines (default {DEFAULT_ROOT})"
    )
    parser.add_argument(
        "--frames", type=int, default=FRAMES, help="to calibrate on and measure with (default %(default)s)"
    )
    parser.add_argument("--again", action="store_true", help="build even if the store has these engines")


def run(args: argparse.Namespace) -> int:
    """Build, then say what is in the engines. An error that the user can act on is one line and code 2."""
    try:
        request = _request(args)
        found = build_model(request, again=args.again)
    except (
        AccuracyError,
        EngineBuildError,
        EngineError,
        FlavourMissingError,
        InspectionError,
        StoreError,
        ValueError,
        OSError,
    ) as error:
        sys.stderr.write(f"gcavt build: {error}\n")
        return 2
    print(engines_table(found))
    print(json.dumps({"built": str(found.directory), "key": found.key.id, "accuracy": found.accuracy}))
    return 0


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What to build, and where to put it."""

    bundle: Bundle
    flavour: Flavour
    precision: Precision
    targets: tuple[ComputeCapability, ...]
    store: EngineStore
    frames: int = FRAMES

    @property
    def key(self) -> EngineKey:
        return EngineKey.of(
            self.bundle.manifest, self.flavour.name, self.precision, self.flavour.version(), self.targets
        )


def _request(args: argparse.Namespace) -> BuildRequest:
    flavour = FLAVOURS[args.flavour]
    if args.frames < 1:
        raise ValueError(f"frames must be positive, got {args.frames}")
    flavour.load()
    if flavour.name == "openvino" and (args.target or args.precision != "int8"):
        raise ValueError(
            "flavour openvino is built in int8 alone and takes no --target; bundles run as they are"
        )
    targets: tuple[ComputeCapability, ...] = ()
    if flavour.name != "openvino":
        targets = parse_targets(args.target) if args.target else flavour.targets or (_this_gpu(flavour),)
    return BuildRequest(
        bundle=Bundle.open(args.model),
        flavour=flavour,
        precision=args.precision,
        targets=targets,
        store=EngineStore(args.out or DEFAULT_ROOT),
        frames=args.frames,
    )


def _this_gpu(flavour: Flavour) -> ComputeCapability:
    from engine.backends.cuda import compute_capability  # an RTX build needs no CUDA

    try:
        return compute_capability()
    except GpuError as error:
        raise EngineBuildError(
            f"{flavour.product} builds on the GPU that is to run it: {error.message}"
        ) from error


def build_model(request: BuildRequest, *, again: bool = False) -> EngineSet:
    """The engines of a request, from the store or built now and put there.

    Raises AccuracyError under the threshold, EngineBuildError, InspectionError, StoreError.
    """
    key, store = request.key, request.store
    with store.lock(key):
        if not again and (store.root / key.folder).is_dir():
            return store.open(key)
        people = measured_people(request.frames)
        reference = reference_calls(request.bundle, people)
        if request.flavour.name == "openvino":
            return _build_for_cpu(request, people, reference)
        emulated = _emulated_accuracy(request, people, reference)
        _say(emulated)
        emulated.check()
        built = build_networks(request, engine_specs(request.bundle.config), reference)
        measured = _measured_accuracy(request, built, people, reference)
        facts = {
            "emulated": emulated.to_json(),
            "engines": None if measured is None else measured.to_json(),
        }
        return _publish(store, key, built, facts)


def _build_for_cpu(request: BuildRequest, people: list[Person], reference: list[Call]) -> EngineSet:
    """OpenVINO in int8, run and measured before it is published.

    Networks that eight bits do not make faster stay as they are, and so do those whose codes become too noisy
    and those that cost the picture too much, the costliest first: each is tried alone before. Raises
    EngineBuildError: none is left.
    """
    from trt_build.openvino_int8 import packed_network

    packed = {}
    specs = engine_specs(request.bundle.config)
    specs = {n: spec for n, spec in specs.items() if n not in ONCE_PER_IDENTITY}
    for name, spec in (bar := tqdm(specs.items(), unit="network")):
        bar.set_description(f"quantise {name}")
        path = request.bundle.directory / request.bundle.manifest.networks[name].file
        packed[name] = packed_network(path, spec, frames_of(reference, name))
    gains = {name: round(network.gain, 2) for name, network in packed.items()}

    def measured(eight: set[str]) -> Accuracy:
        return _cpu_accuracy(request, {name: packed[name].content for name in eight}, people, reference)

    wanted_db = LEAST_PSNR_DB["int8"] + MARGIN_DB
    faster = [name for name, network in packed.items() if network.is_faster]
    alone = {name: measured({name}) for name in tqdm(faster, desc="alone", unit="network")}
    alone_db = {name: accuracy.least_psnr_db() for name, accuracy in alone.items()}
    own_db = {name: accuracy.least_psnr_db(name) for name, accuracy in alone.items()}
    for name, psnr_db in alone_db.items():
        sys.stderr.write(
            f"{name} alone in int8: picture {psnr_db:.1f} dB, its own output {own_db[name]:.1f} dB, "
            f"{gains[name]:.2f} times faster\n"
        )
    chosen = {name for name in faster if alone_db[name] >= wanted_db and own_db[name] >= LEAST_OUTPUT_DB}
    while chosen:
        accuracy = measured(chosen)
        _say(accuracy)
        if accuracy.least_psnr_db() >= wanted_db:
            contents = {name: network.content for name, network in packed.items() if name in chosen}
            layers = {name: {"int8": 1} for name in contents}
            facts = {"engines": accuracy.to_json(), "gain": gains, "alone_db": alone_db, "own_db": own_db}
            return request.store.publish(request.key, contents, layers, facts)
        dropped = min(chosen, key=alone_db.__getitem__)
        sys.stderr.write(f"{dropped} stays in full precision\n")
        chosen.remove(dropped)
    listed = ", ".join(f"{name} {gain:.2f}" for name, gain in gains.items())
    raise EngineBuildError(
        f"int8 leaves no network both exact enough and faster on this processor; times faster: {listed}"
    )


def _cpu_accuracy(
    request: BuildRequest, contents: Mapping[str, bytes], people: list[Person], reference: list[Call]
) -> Accuracy:
    from engine.backends.openvino import OpenVinoBackend

    with tempfile.TemporaryDirectory(prefix="gcavt-engines-") as folder:
        trial = EngineStore(Path(folder))
        trial.publish(request.key, contents, {name: {} for name in contents}, {})
        backend = OpenVinoBackend(
            request.bundle.directory, cache_dir=Path(folder) / "compiled", precision="int8", store=trial
        )
        try:
            return compare(backend, "int8", reference, play(backend, request.bundle.manifest, people))
        finally:
            backend.close()


def _say(accuracy: Accuracy) -> None:
    sys.stderr.write(accuracy_table([accuracy]) + "\n")


def _publish(
    store: EngineStore, key: EngineKey, built: dict[str, BuiltEngine], facts: Mapping[str, object]
) -> EngineSet:
    contents = {name: engine.content for name, engine in built.items()}
    layers = {name: engine.report.layers_by_type() for name, engine in built.items()}
    return store.publish(key, contents, layers, facts)


def measured_people(frames: int) -> list[Person]:
    """`frames` frames of rendered people and as many of photographed ones."""
    return render_people(frames, show_progress=True) + photographed_people(frames)


def reference_calls(bundle: Bundle, people: list[Person]) -> list[Call]:
    """What fp32 PyTorch makes of the people. Raises AccuracyError: the bundle's graphs are not its model."""
    backend = open_backend("pytorch", bundle.directory)
    try:
        calls = play(backend, bundle.manifest, people)
    finally:
        backend.close()
    portable = open_backend("onnxruntime", bundle.directory)
    for call in (next(c for c in reversed(calls) if c.network == name) for name in bundle.manifest.networks):
        difference = Difference()
        difference.add(portable.run(call.network, call.inputs), call.outputs)
        if difference.psnr_db < GRAPH_PSNR_DB:
            raise AccuracyError(
                f"{bundle.directory / bundle.manifest.networks[call.network].file} is not what this version "
                f"makes of {CHECKPOINT_NAME} beside it ({difference.psnr_db:.0f} dB): export the bundle again"
            )
    portable.close()
    return calls


def _measured_accuracy(
    request: BuildRequest, built: dict[str, BuiltEngine], people: list[Person], reference: list[Call]
) -> Accuracy | None:
    """The engines themselves on this machine's GPU, if they are for it. Raises AccuracyError."""
    try:
        from engine.backends.cuda import compute_capability
        from engine.backends.tensorrt import TensorRtBackend

        target = compute_capability()
    except (ImportError, GpuError) as error:
        sys.stderr.write(f"{NOT_RUN} {error}\n")
        return None
    if target not in request.targets:
        sys.stderr.write(f"{NOT_RUN} They are not for this GPU, {targets_text((target,))}.\n")
        return None
    with tempfile.TemporaryDirectory(prefix="gcavt-engines-") as folder:
        trial = EngineStore(Path(folder))
        _publish(trial, request.key, built, {})
        engines = TensorRtBackend(
            request.bundle.directory,
            flavour=request.flavour.name,
            precision=request.precision,
            store=trial,
        )
        try:
            replayed = play(engines, request.bundle.manifest, people)
            accuracy = compare(engines, request.precision, reference, replayed)
        finally:
            engines.close()
    _say(accuracy)
    accuracy.check()
    return accuracy


def engine_graph(
    request: BuildRequest, network: str, reference: list[Call], *, emulated: bool
) -> onnx.ModelProto:
    """The graph of one network as the engine computes it, or as the CPU emulates that."""
    graph = onnx.load(request.bundle.directory / request.bundle.manifest.networks[network].file)
    quantised = None
    if request.precision in ("int8", "fp8"):
        # TensorRT for RTX documents fp8 for matrix products alone
        is_limited = request.precision == "fp8" and request.flavour.name == "rtx"
        products = frozenset({"Gemm", "MatMul"}) if is_limited else PRODUCTS
        frames = frames_of(reference, network)
        quantised = quantiser(request.precision, frames, products=products)
    return typed_graph(graph, request.precision, emulated=emulated, quantised=quantised)


def emulated_engines(request: BuildRequest, reference: list[Call]) -> EmulatedEngines:
    """The engines of a request as the CPU can show them: same graphs, every rounding done, other kernels."""
    specs = engine_specs(request.bundle.config)
    graphs = {name: engine_graph(request, name, reference, emulated=True) for name in specs}
    return EmulatedEngines(graphs, specs)


def _emulated_accuracy(request: BuildRequest, people: list[Person], reference: list[Call]) -> Accuracy:
    engines = emulated_engines(request, reference)
    replayed = play(engines, request.bundle.manifest, people)
    return compare(engines, request.precision, reference, replayed)


def build_networks(
    request: BuildRequest, specs: dict[str, EngineSpec], reference: list[Call]
) -> dict[str, BuiltEngine]:
    """Every network as an inspected engine."""
    times = (
        None if request.flavour.builds_without_gpu else bytearray(request.store.read_cache(_times(request)))
    )
    built = {}
    for name, spec in (bar := tqdm(specs.items(), unit="engine")):
        bar.set_description(f"build {name}")
        graph = engine_graph(request, name, reference, emulated=False).SerializeToString()
        targets = request.targets if request.flavour.builds_without_gpu else ()
        built[name] = build_engine(request.flavour, graph, spec, targets, timing_cache=times)
        check_report(built[name].report, spec, request.precision)
    if times is not None:
        request.store.write_cache(_times(request), bytes(times))
    return built


def _times(request: BuildRequest) -> str:
    return f"{request.flavour.version()}-{targets_text(request.targets)}.timing"


def engines_table(found: EngineSet) -> str:
    """One line per engine: size and layers by the type that they compute in."""
    kinds = sorted({kind for engine in found.engines.values() for kind in engine.layers})
    rows = [
        [name, f"{engine.bytes / 1e6:.1f}", *(engine.layers.get(kind, 0) for kind in kinds)]
        for name, engine in found.engines.items()
    ]
    heading = f"{found.key.flavour} {found.key.version} for {targets_text(found.key.targets)}"
    return table([heading, "MB", *(f"{kind} layers" for kind in kinds)], rows)
