"""Checkpoint -> bundle: one ONNX graph per network, a manifest, and the checkpoint itself in half precision.

Graphs come from torch.export (the dynamo exporter): batch norms are folded into convolutions, instance norms
stay one operator, and no shape arithmetic is left, which the older TorchScript exporter does not give.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from tqdm import tqdm

from gcavt import code_space
from gcavt.checkpoint import Checkpoint, CheckpointError, read_checkpoint, save_checkpoint
from gcavt.generator import AdainGenerator
from gcavt.model import Gcavt
from trt_build.manifest import (
    CHECKPOINT_NAME,
    FILE_NAME,
    CodeSpace,
    Manifest,
    NetworkEntry,
    NeutralCodes,
    network_entry,
)
from trt_build.modules import network_modules
from trt_build.specs import BATCH, EngineSpec, engine_specs
from trt_build.verify import Arrays, largest_difference, module_outputs, onnx_outputs, sample_inputs
from trt_build.weights import halve_weights

logger = logging.getLogger(__name__)

OPSET: Final = 18
MAX_DIFFERENCE: Final = 1e-3
"""A graph (with full weights) that differs more than this from its module is not let into a bundle."""

_SAMPLE_BATCH: Final = 2  # torch.export would take a batch of 1 for a constant
_KEPT_ENTRIES: Final = ("identities", "MODEL_CARD.md")
"""What a bundle directory may hold beside exported files; a new export leaves it as it was."""


class ExportError(RuntimeError):
    """The export would be wrong, or would overwrite something that is no bundle."""


class TracedNetwork(NamedTuple):
    """One network as an ONNX graph with full weights, and what its module puts out for sample inputs."""

    graph: onnx.ModelProto
    parameters: Arrays
    """The module's own, by their names in the graph; batch norms are folded into those of the graph."""
    inputs: Arrays
    reference: Arrays
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ExportedNetwork:
    """One finished file with what its making showed."""

    entry: NetworkEntry
    size_bytes: int
    seconds: float
    max_difference: float
    """Largest absolute difference between file and module, stored weights included."""


def export_bundle(
    model: Gcavt,
    directory: Path,
    *,
    name: str,
    space: CodeSpace,
    provenance: dict[str, Any],
    fp32_weights: bool = False,
    show_progress: bool = False,
) -> dict[str, ExportedNetwork]:
    """Write a complete bundle to `directory`, which is replaced as a whole or left as it was.

    Raises ExportError if a graph disagrees with its module or the directory holds something else.
    """
    _check_replaceable(directory)
    return write_bundle(
        model,
        trace_networks(model, show_progress=show_progress),
        directory,
        name=name,
        space=space,
        provenance=provenance,
        fp32_weights=fp32_weights,
    )


def trace_networks(
    model: Gcavt, networks: Iterable[str] | None = None, *, show_progress: bool = False
) -> dict[str, TracedNetwork]:
    """The named networks (all of them by default) as ONNX graphs with full weights; the slow part.

    Raises ExportError if a graph disagrees with its module.
    """
    specs = engine_specs(model.config)
    modules = network_modules(folded(model))
    traced = {}
    for network in (bar := tqdm(list(networks or specs), unit="network", disable=not show_progress)):
        bar.set_description(f"export {network}")
        traced[network] = _trace(modules[network], specs[network])
    return traced


def _trace(module: nn.Module, spec: EngineSpec) -> TracedNetwork:
    started = time.perf_counter()
    graph = onnx_graph(module, spec)
    operators = Counter(node.op_type for node in graph.graph.node)
    logger.debug("%s: %s", spec.name, ", ".join(f"{op} {n}" for op, n in sorted(operators.items())))
    inputs = sample_inputs(spec, batch=_SAMPLE_BATCH + 1)
    reference = module_outputs(module, spec, inputs)
    difference = largest_difference(onnx_outputs(graph.SerializeToString(), spec, inputs), reference)
    if not difference <= MAX_DIFFERENCE:
        raise ExportError(f"{spec.name}: the exported graph differs from the model by {difference:.2g}")
    return TracedNetwork(graph, _parameters(module), inputs, reference, time.perf_counter() - started)


def _parameters(module: nn.Module) -> Arrays:
    wrapped = _ListArguments(module)
    return {name: parameter.detach().numpy() for name, parameter in wrapped.named_parameters()}


def write_bundle(
    model: Gcavt,
    traced: dict[str, TracedNetwork],
    directory: Path,
    *,
    name: str,
    space: CodeSpace,
    provenance: dict[str, Any],
    fp32_weights: bool = False,
) -> dict[str, ExportedNetwork]:
    """Write what `trace_networks` made of the model as a bundle; `directory` is replaced as a whole."""
    _check_replaceable(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as temporary:
        building = Path(temporary) / "bundle"
        building.mkdir()
        exported = {
            network: _write_network(traced[network], spec, building / f"{network}.onnx", fp32_weights)
            for network, spec in engine_specs(model.config).items()
        }
        dtype = torch.float32 if fp32_weights else torch.float16
        save_checkpoint(building / CHECKPOINT_NAME, model, model.config, provenance, dtype=dtype)
        (building / CHECKPOINT_NAME).chmod(0o644)  # safetensors makes files that only their owner can read
        _manifest(model, name, space, provenance, exported).save(building / FILE_NAME)
        _replace(directory, building)
    return exported


def _write_network(
    traced: TracedNetwork, spec: EngineSpec, path: Path, fp32_weights: bool
) -> ExportedNetwork:
    graph = onnx.ModelProto()
    graph.CopyFrom(traced.graph)
    if not fp32_weights:
        halve_weights(graph, traced.parameters)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)
    return ExportedNetwork(
        entry=network_entry(spec, path),
        size_bytes=path.stat().st_size,
        seconds=traced.seconds,
        max_difference=largest_difference(onnx_outputs(path, spec, traced.inputs), traced.reference),
    )


class _ListArguments(nn.Module):
    """The module with its arguments in one list, so that all networks are traced alike."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, tensors: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
        result: Tensor | tuple[Tensor, ...] = self.module(*tensors)
        return result


def onnx_graph(module: nn.Module, spec: EngineSpec) -> onnx.ModelProto:
    """The module as an ONNX graph with full weights, its tensors named and its batch dynamic as in `spec`."""
    arguments = [torch.from_numpy(array) for array in sample_inputs(spec, _SAMPLE_BATCH).values()]
    batch = torch.export.Dim(BATCH, min=spec.batch.least, max=spec.batch.largest)
    with _quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            _ListArguments(module).eval(),
            (arguments,),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(spec.input_names),
            output_names=list(spec.output_names),
            dynamic_shapes=([{0: batch}] * len(arguments),),
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    del graph.metadata_props[:]
    for node in graph.graph.node:  # stack traces and paths of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    return graph


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without the exporter's remarks on its own deprecations and on packages that are not needed."""
    chatter = logging.getLogger("torch.onnx")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        chatter.setLevel(level)


def folded(model: Gcavt) -> Gcavt:
    """A copy for inference on the CPU: spectral norms folded, upsampling convolutions in their cheap form."""
    result = Gcavt(model.config)  # a deep copy would share the classes that removing a spectral norm changes
    result.load_state_dict(model.state_dict())
    result.eval()
    if isinstance(result.generator, AdainGenerator):
        result.generator.use_phase_convolutions()
    return result


def neutral_codes(space: CodeSpace) -> NeutralCodes | None:
    """Codes of a relaxed head in an exact code space; a free one has none that hold for every identity."""
    if space == "free":
        return None
    relaxed = np.zeros(len(code_space.COEFFICIENTS), np.float32)
    return NeutralCodes(
        pose_code=tuple(code_space.pose_code(np.zeros(6, np.float32)).tolist()),
        expression_code=tuple(code_space.expression_code(relaxed).tolist()),
        content_code=tuple(code_space.content_code(relaxed).tolist()),
    )


def _manifest(
    model: Gcavt,
    name: str,
    space: CodeSpace,
    provenance: dict[str, Any],
    exported: dict[str, ExportedNetwork],
) -> Manifest:
    return Manifest(
        name=name,
        config=model.config,
        networks={network: result.entry for network, result in exported.items()},
        code_space=space,
        neutral=neutral_codes(space),
        versions={package: version(package) for package in ("torch", "onnx", "onnxscript")}
        | {"opset": str(OPSET)},
        provenance=provenance,
    )


def _check_replaceable(directory: Path) -> None:
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ExportError(f"{directory} is not a directory")
    foreign = {entry.name for entry in directory.iterdir()} - set(_KEPT_ENTRIES)
    if foreign and not (directory / FILE_NAME).is_file():
        raise ExportError(f"{directory} holds {min(foreign)} and no bundle; give a new or an empty directory")


def _replace(directory: Path, building: Path) -> None:
    for name in _KEPT_ENTRIES:
        kept = directory / name
        if kept.is_dir():
            shutil.copytree(kept, building / name)
        elif kept.is_file():
            shutil.copy2(kept, building / name)
    if directory.exists():
        directory.rename(building.parent / "previous")  # goes with the temporary directory
    building.rename(directory)


def code_space_of(checkpoint: Checkpoint) -> CodeSpace:
    """What the provenance says under `code_space`; without that, exact for an edit_repose generator."""
    stated = checkpoint.provenance.get("code_space")
    if stated is None:
        return "exact" if checkpoint.config.generator.kind == "edit_repose" else "free"
    if stated not in ("exact", "free"):
        raise ExportError(f"the checkpoint's code_space must be exact or free, got {stated!r}")
    return "exact" if stated == "exact" else "free"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Turn a checkpoint into a bundle that the engine runs without PyTorch.\n\n"
        "The bundle is a directory: one ONNX file per network (tensors by name, any batch size),\n"
        "manifest.json (shapes, SHA-256, versions, provenance) and model.safetensors (the reference).\n"
        "Every file is run and compared with the model before the bundle is put in place; an unfinished\n"
        "one never is. An older bundle in the same directory is replaced; its identities/ and\n"
        "MODEL_CARD.md are kept. Takes one to three minutes."
    )
    parser.epilog = (
        "example:\n  gcavt export runs/lite/last.safetensors --out my-avatar\n  gcavt serve --model my-avatar"
    )
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="a .safetensors file of `gcavt train`"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory of the bundle")
    parser.add_argument("--name", help="name of the model (default: the checkpoint's own)")
    parser.add_argument(
        "--fp32-weights",
        action="store_true",
        help="store weights in full precision: twice the size (default: half; computed in float32 anyway)",
    )


def run(args: argparse.Namespace) -> int:
    """Export, then say what was written. Errors of the user's making: one line, exit code 2."""
    try:
        checkpoint = read_checkpoint(args.checkpoint)
        exported = export_bundle(
            checkpoint.build(),
            args.out,
            name=args.name or checkpoint.config.name,
            space=code_space_of(checkpoint),
            provenance=checkpoint.provenance,
            fp32_weights=args.fp32_weights,
            show_progress=True,
        )
    except (ExportError, CheckpointError, OSError) as error:
        sys.stderr.write(f"gcavt export: {error}\n")
        return 2
    sys.stdout.write(_report(args.out, exported))
    return 0


def _report(directory: Path, exported: dict[str, ExportedNetwork]) -> str:
    lines = [f"{'network':20}{'MB':>8}{'seconds':>9}{'max difference':>16}"]
    for network, result in exported.items():
        size_mb = result.size_bytes / 1e6
        lines.append(f"{network:20}{size_mb:8.2f}{result.seconds:9.1f}{result.max_difference:16.1e}")
    total_mb = sum(result.size_bytes for result in exported.values()) / 1e6
    return "\n".join([*lines, f"{directory}: {len(exported)} networks, {total_mb:.1f} MB", ""])
