"""Every exported network of both generator members on every run time, against the PyTorch modules.

What is compared here are graphs; bf16 and int8 have their own gate, on real weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from engine.backends.backend import Backend, open_backend
from tests.bundles import MEMBERS, Member, TinyBundles, tiny_config
from trt_build.specs import engine_specs
from trt_build.verify import largest_difference, sample_inputs

LIMITS = {"half": 2e-3, "full": 5e-4}
"""Of the range 0 to 1. The pictures are noise: a position rounded otherwise by 1e-4 px shows there."""


@pytest.fixture(params=MEMBERS)
def member(request: pytest.FixtureRequest) -> Member:
    chosen: Member = request.param
    return chosen


@pytest.fixture(params=LIMITS)
def weights(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def reference(tiny_bundles: TinyBundles, member: Member, weights: str) -> Iterator[Backend]:
    path = tiny_bundles.path(member, fp32_weights=weights == "full")
    backend = open_backend("pytorch", path, threads=1)
    yield backend
    backend.close()


@pytest.mark.parametrize("name", ["openvino-fp32", "onnxruntime"])
def test_every_network_agrees_with_pytorch(
    tiny_bundles: TinyBundles, member: Member, weights: str, reference: Backend, name: str
) -> None:
    backend = open_backend(name, tiny_bundles.path(member, fp32_weights=weights == "full"), threads=1)
    differences = {}
    for network, spec in engine_specs(tiny_config(member)).items():
        inputs = sample_inputs(spec, batch=1, seed=5)
        differences[network] = largest_difference(
            backend.run(network, inputs), reference.run(network, inputs)
        )
    backend.close()
    assert {n: d for n, d in differences.items() if not d < LIMITS[weights]} == {}


@pytest.mark.parametrize("name", ["openvino-fp32", "onnxruntime", "pytorch"])
def test_a_batch_gives_what_its_samples_give(tiny_bundles: TinyBundles, name: str) -> None:
    backend = open_backend(name, tiny_bundles.path("edit_repose"), threads=1)
    inputs = sample_inputs(engine_specs(tiny_config("edit_repose"))["generator"], batch=3)
    together = backend.run("generator", inputs)["image"]
    alone = [
        backend.run("generator", {key: array[i : i + 1] for key, array in inputs.items()})["image"]
        for i in range(3)
    ]
    backend.close()
    np.testing.assert_allclose(together, np.concatenate(alone), atol=LIMITS["full"])
