"""How near networks in another precision or run time come to fp32 PyTorch, and the gate that this must pass.

Two questions. Per network: the same inputs, how far apart are the outputs? For the whole path: the same
portraits, frames and sound, how far apart are the pictures, errors of all networks added up?
"""

from __future__ import annotations

import math
from collections import defaultdict
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
    label: str = ""
    """What the pictures are of."""


class Recorder:
    """Networks that keep what went in and came out."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self.name, self.provider = networks.name, networks.provider
        self.calls: list[Call] = []
        self.label = ""
        """Of the calls to come."""

    def run(self, network: str, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        outputs = self._networks.run(network, inputs)
        kept = {name: np.array(array, np.float32) for name, array in inputs.items()}
        made = {name: np.array(array) for name, array in outputs.items()}
        self.calls.append(Call(network, kept, made, self.label))
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


@dataclass
class Differences:
    """Every network and the whole path on pictures of one kind."""

    networks: dict[str, Difference] = field(default_factory=lambda: defaultdict(Difference))
    picture: Difference = field(default_factory=lambda: Difference(peak=1.0))
    """The picture of the whole path."""
    frames: int = 0

    def to_json(self) -> dict[str, object]:
        return {
            "frames": self.frames,
            "picture_psnr_db": _rounded(self.picture.psnr_db),
            "picture_largest_error": _rounded(self.picture.largest),
            "networks": {
                name: {"psnr_db": _rounded(d.psnr_db), "largest_error": _rounded(d.largest)}
                for name, d in self.networks.items()
            },
        }


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """One run time in one precision against fp32 PyTorch."""

    name: str
    precision: str
    ran_on: str
    kinds: Mapping[str, Differences]
    """By what the pictures are of, such as rendered or photographed."""

    @property
    def passes(self) -> bool:
        return all(kind.picture.psnr_db >= LEAST_PSNR_DB[self.precision] for kind in self.kinds.values())

    def least_psnr_db(self, network: str | None = None) -> float:
        """Of the picture, or of one network, on the kind of pictures that suits it least."""
        kinds = self.kinds.values()
        return min((k.picture if network is None else k.networks[network]).psnr_db for k in kinds)

    def check(self) -> None:
        """Raise AccuracyError under the threshold."""
        if not self.passes:
            raise AccuracyError(
                f"{self.name} in {self.precision}: the picture's PSNR is {self.least_psnr_db():.1f} dB, "
                f"the gate asks for {LEAST_PSNR_DB[self.precision]:g} dB"
            )

    def to_json(self) -> dict[str, object]:
        return {
            "precision": self.precision,
            "ran_on": self.ran_on,
            "picture_psnr_db": _rounded(self.least_psnr_db()),
            "kinds": {name: kind.to_json() for name, kind in self.kinds.items()},
        }


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def compare(
    networks: Networks, precision: str, reference: Sequence[Call], replayed: Sequence[Call]
) -> Accuracy:
    """Networks against a recording of the reference and against their own replay of the same media.

    replayed: the calls that the whole path made with these networks, in the reference's order.
    """
    kinds: dict[str, Differences] = defaultdict(Differences)
    for call in reference:
        outputs = networks.run(call.network, call.inputs)
        kinds[call.label].networks[call.network].add(outputs, call.outputs)
    for ours, theirs in zip(_pictures(replayed), _pictures(reference), strict=True):
        kind = kinds[theirs.label]
        kind.picture.add({IMAGE: ours.outputs[IMAGE]}, {IMAGE: theirs.outputs[IMAGE]})
        kind.frames += 1
    return Accuracy(name=networks.name, precision=precision, ran_on=networks.provider, kinds=dict(kinds))


def _pictures(calls: Iterable[Call]) -> list[Call]:
    return [call for call in calls if call.network == GENERATOR]


def accuracy_table(results: Sequence[Accuracy]) -> str:
    """PSNR in dB and largest error, one line per network and one for the whole path."""
    lines = []
    for result in results:
        verdict = "passes" if result.passes else "FAILS"
        kinds = result.kinds.values()
        lines.append(f"{result.name}, {result.precision}, on {result.ran_on}")
        headings = [f"{name or 'pictures'}, {kind.frames} frames" for name, kind in result.kinds.items()]
        lines.append("  " + " " * 22 + "".join(f"{heading:>30}" for heading in headings))
        rows = {name: [kind.networks[name] for kind in kinds] for name in next(iter(kinds)).networks}
        rows["whole path, picture"] = [kind.picture for kind in kinds]
        for name, differences in rows.items():
            cells = (f"{d.psnr_db:.1f} dB, largest {d.largest:.2g}" for d in differences)
            lines.append(f"  {name:22}" + "".join(f"{cell:>30}" for cell in cells))
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
