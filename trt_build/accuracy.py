"""How near networks in another precision or run time come to fp32 PyTorch, and the gate that this must pass.

Two questions. Per network: the same inputs, how far apart are the outputs? For the whole path: the same
portraits, frames and sound, how far apart are the pictures, errors of all networks added up?
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from trt_build.specs import EngineSpec

Arrays = dict[str, NDArray[np.float32]]

LEAST_PSNR_DB: Final = {"fp32": 40.0, "fp16": 40.0, "bf16": 40.0, "int8": 35.0, "fp8": 35.0}
"""Of the final picture over all frames: below this, nothing is published."""
GENERATOR: Final = "generator"
IMAGE: Final = "image"


class AccuracyError(RuntimeError):
    """A precision is further from the reference than its threshold allows."""


class Networks(Protocol):
    """What runs networks by name; every engine backend does."""

    @property
    def name(self) -> str: ...
    @property
    def provider(self) -> str: ...
    def run(self, network: str, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Call:
    """One run of one network."""

    network: str
    inputs: Arrays
    outputs: Arrays


class Recorder:
    """Networks that keep what went in and came out."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self.name, self.provider = networks.name, networks.provider
        self.calls: list[Call] = []

    def run(self, network: str, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        outputs = self._networks.run(network, inputs)
        kept = {name: np.array(array, np.float32) for name, array in inputs.items()}
        self.calls.append(Call(network, kept, {name: np.array(array) for name, array in outputs.items()}))
        return outputs

    def close(self) -> None:
        self._networks.close()


def frames_of(calls: Iterable[Call], network: str) -> list[Arrays]:
    """Inputs of one network, in order: what calibration reads."""
    return [call.inputs for call in calls if call.network == network]


@dataclass
class Difference:
    """Outputs against the reference's, added up over frames."""

    squares: float = 0.0
    count: int = 0
    largest: float = 0.0
    peak: float = 0.0
    """Largest magnitude of the reference: 1 for pictures, a code's own size for codes."""

    def add(self, outputs: Arrays, reference: Arrays) -> None:
        for name, wanted in reference.items():
            error = np.abs(outputs[name].astype(np.float64) - wanted)
            self.squares += float((error**2).sum())
            self.count += error.size
            self.largest = max(self.largest, float(error.max()))
            self.peak = max(self.peak, float(np.abs(wanted).max()))

    @property
    def psnr_db(self) -> float:
        """Infinite where nothing differs, and NaN where an output is no number."""
        if self.squares == 0:
            return math.inf
        return 20 * math.log10(max(self.peak, 1e-12)) - 10 * math.log10(self.squares / max(self.count, 1))


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """One run time in one precision against fp32 PyTorch."""

    name: str
    precision: str
    ran_on: str
    networks: Mapping[str, Difference]
    picture: Difference
    """The picture of the whole path."""
    frames: int
    notes: tuple[str, ...] = field(default=())

    @property
    def passes(self) -> bool:
        return self.picture.psnr_db >= LEAST_PSNR_DB[self.precision]

    def check(self) -> None:
        """Raise AccuracyError under the threshold."""
        if not self.passes:
            raise AccuracyError(
                f"{self.name} in {self.precision}: the picture's PSNR is {self.picture.psnr_db:.1f} dB, "
                f"the gate asks for {LEAST_PSNR_DB[self.precision]:g} dB"
            )

    def to_json(self) -> dict[str, object]:
        return {
            "precision": self.precision,
            "ran_on": self.ran_on,
            "frames": self.frames,
            "picture_psnr_db": _rounded(self.picture.psnr_db),
            "picture_largest_error": _rounded(self.picture.largest),
            "networks": {
                name: {"psnr_db": _rounded(d.psnr_db), "largest_error": _rounded(d.largest)}
                for name, d in self.networks.items()
            },
        }


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def compare(
    networks: Networks, precision: str, reference: Sequence[Call], replayed: Sequence[Call]
) -> Accuracy:
    """Networks against a recording of the reference and against their own replay of the same media.

    replayed: the calls that the whole path made with these networks, in the reference's order.
    """
    differences: dict[str, Difference] = {}
    for call in reference:
        outputs = networks.run(call.network, call.inputs)
        differences.setdefault(call.network, Difference()).add(outputs, call.outputs)
    picture = Difference(peak=1.0)
    pairs = list(zip(_pictures(replayed), _pictures(reference), strict=True))
    for ours, theirs in pairs:
        picture.add({IMAGE: ours}, {IMAGE: theirs})
    return Accuracy(
        name=networks.name,
        precision=precision,
        ran_on=networks.provider,
        networks=differences,
        picture=picture,
        frames=len(pairs),
    )


def _pictures(calls: Iterable[Call]) -> list[NDArray[np.float32]]:
    return [call.outputs[IMAGE] for call in calls if call.network == GENERATOR]


def accuracy_table(results: Sequence[Accuracy]) -> str:
    """PSNR in dB and largest error, one line per network and one for the whole path."""
    lines = []
    for result in results:
        verdict = "passes" if result.passes else "FAILS"
        lines.append(f"{result.name}, {result.precision}, {result.frames} frames, on {result.ran_on}")
        rows = [*result.networks.items(), ("whole path, picture", result.picture)]
        lines += [f"  {name:22}{d.psnr_db:8.1f} dB   largest error {d.largest:8.2g}" for name, d in rows]
        lines.append(f"  {verdict}: the gate asks for {LEAST_PSNR_DB[result.precision]:g} dB")
    return "\n".join(lines)


class EmulatedEngines:
    """Graphs that were made for engines, run on the CPU with every half and 8-bit tensor rounded as stated.

    Shows what the precision costs, not what a GPU's own kernels add to it (their order of summation).
    """

    name = "emulation"

    def __init__(self, graphs: Mapping[str, onnx.ModelProto], specs: Mapping[str, EngineSpec]) -> None:
        """graphs: of `typed_graph` with emulated=True."""
        self._specs = specs
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        # its optimiser would take a cast to half and back for nothing
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._sessions = {
            name: ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
            for name, graph in graphs.items()
        }
        self.provider = f"ONNX Runtime {ort.__version__} CPU, precision emulated"

    def run(self, network: str, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        spec = self._specs[network]
        feed = {name: inputs[name] for name in spec.input_names}
        results = self._sessions[network].run(spec.output_names, feed)
        return dict(zip(spec.output_names, results, strict=True))

    def close(self) -> None:
        self._sessions.clear()
