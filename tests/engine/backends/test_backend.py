from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engine.backends.abilities import Results, in_parallel
from engine.backends.backend import CPU_BACKENDS, Backend, Tensors, open_backend
from engine.errors import BackendMissingError, BundleError
from tests.bundles import TinyBundles, tiny_config
from trt_build.manifest import CHECKPOINT_NAME
from trt_build.specs import engine_specs
from trt_build.verify import largest_difference, sample_inputs

SPECS = engine_specs(tiny_config("edit_repose"))


@pytest.fixture(params=CPU_BACKENDS)
def backend(request: pytest.FixtureRequest, tiny_bundles: TinyBundles) -> Iterator[Backend]:
    opened = open_backend(request.param, tiny_bundles.path("edit_repose"), threads=1)
    yield opened
    opened.close()


def test_the_provider_says_what_really_computes(backend: Backend) -> None:
    product = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "pytorch": "PyTorch"}[backend.name]
    assert backend.provider.startswith(product)
    assert "CPU" in backend.provider.upper() or "cuda" in backend.provider


def test_outputs_are_float32_arrays_by_name(backend: Backend) -> None:
    outputs = backend.run("generator", sample_inputs(SPECS["generator"], batch=1))
    assert {name: (array.shape, array.dtype.name) for name, array in outputs.items()} == {
        "image": ((1, 3, 256, 256), "float32"),
        "mask": ((1, 1, 256, 256), "float32"),
    }


def test_results_belong_to_the_caller(backend: Backend) -> None:
    spec = SPECS["pose_encoder"]
    first = backend.run("pose_encoder", sample_inputs(spec, batch=1, seed=1))["pose_code"]
    kept = first.copy()
    backend.run("pose_encoder", sample_inputs(spec, batch=1, seed=2))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_threads_that_share_compiled_networks_get_their_own_results(
    name: str, tiny_bundles: TinyBundles
) -> None:
    feeds = [sample_inputs(SPECS["generator"], 1, seed) for seed in range(3)]
    backends = in_parallel(open_backend(name, tiny_bundles.path("edit_repose"), threads=1), 3)
    with ThreadPoolExecutor(3) as threads:

        def draw(backend: Backend, feed: Tensors) -> list[Results]:
            return [backend.run("generator", feed) for _ in range(20)]

        drawn = list(threads.map(draw, backends, feeds))
    for feed, pictures in zip(feeds, drawn, strict=True):
        alone = backends[0].run("generator", feed)
        assert all(largest_difference(picture, alone) < 1e-6 for picture in pictures)
    for backend in backends:
        backend.close()


def test_inputs_may_be_views_that_are_not_contiguous(backend: Backend) -> None:
    image = sample_inputs(SPECS["pose_encoder"], batch=1)["pose_image"]
    strided = np.ascontiguousarray(image.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(
        backend.run("pose_encoder", {"pose_image": strided})["pose_code"],
        backend.run("pose_encoder", {"pose_image": image})["pose_code"],
        atol=1e-6,
    )


def test_a_missing_tensor_is_named(backend: Backend) -> None:
    with pytest.raises(KeyError, match="pose_encoder needs the tensor pose_image"):
        backend.run("pose_encoder", {})


def test_a_wrong_shape_is_named(backend: Backend) -> None:
    with pytest.raises(ValueError, match=r"pose_encoder\.pose_image must be"):
        backend.run("pose_encoder", {"pose_image": np.zeros((1, 3, 8, 8), np.float32)})


def test_a_batch_beyond_the_profile_is_refused_by_every_backend(backend: Backend) -> None:
    inputs = sample_inputs(SPECS["audio_encoder"], batch=33)
    with pytest.raises(ValueError, match="audio_encoder takes batches of 1 to 32, got 33"):
        backend.run("audio_encoder", inputs)


def test_an_unknown_network_is_a_key_error(backend: Backend) -> None:
    with pytest.raises(KeyError):
        backend.run("oracle", {})


def test_an_unknown_backend_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BackendMissingError, match="openvino-int8, onnxruntime, pytorch, rtx, "):
        open_backend("abacus", tmp_path)


@pytest.mark.parametrize(
    ("name", "package"), [("openvino", "openvino"), ("onnxruntime", "onnxruntime"), ("pytorch", "torch")]
)
def test_a_missing_package_stops_with_the_command_that_installs_it(name: str, package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from pathlib import Path\n"
        "from engine.backends.backend import open_backend\n"
        "from engine.errors import BackendMissingError\n"
        f"try: open_backend({name!r}, Path())\n"
        "except BackendMissingError as error: print(error.message)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert f"needs the package {package}" in result.stdout
    assert f"pip install {package}" in result.stdout


def test_pytorch_needs_the_checkpoint_of_the_bundle(tiny_bundle: Path) -> None:
    (tiny_bundle / CHECKPOINT_NAME).unlink()
    with pytest.raises(BundleError, match=r"model\.safetensors does not exist"):
        open_backend("pytorch", tiny_bundle)


def test_openvino_keeps_compiled_networks_for_the_next_start(tiny_bundle: Path, tmp_path: Path) -> None:
    from engine.backends.openvino import OpenVinoBackend

    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    backend = OpenVinoBackend(tiny_bundle, threads=1, cache_dir=tmp_path / "cache")
    backend.run("audio_encoder", sample_inputs(SPECS["audio_encoder"], batch=1))
    backend.close()
    assert list((tmp_path / "cache").iterdir())
