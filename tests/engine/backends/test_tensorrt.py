"""The GPU backends: without a GPU what they say and which names they use, with one what they compute."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.backends.backend import Backend, Tensors, open_backend
from engine.backends.restarting import RestartingBackend
from engine.bundle import PRETRAINED_DIR
from engine.errors import GpuError, GpuLostError, GpuMemoryError
from tests.bundles import TinyBundles, tiny_config
from trt_build.specs import engine_specs
from trt_build.verify import largest_difference, sample_inputs

cuda_runtime = pytest.importorskip("cuda.bindings.runtime", reason="needs the extra rtx or tensorrt")

SPECS = engine_specs(tiny_config("edit_repose"))
LITE = PRETRAINED_DIR / "lite"
HAS_GPU = cuda_runtime.cudaGetDeviceCount()[0] == cuda_runtime.cudaError_t.cudaSuccess


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_without_a_gpu_the_backend_says_so() -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs the extra rtx")
    with pytest.raises(GpuError, match=r"There is no NVIDIA GPU to work with: .*gcavt doctor"):
        open_backend("rtx", LITE)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ("cudaErrorMemoryAllocation", GpuMemoryError),
        ("cudaErrorNoDevice", GpuError),
        ("cudaErrorLaunchFailure", GpuLostError),
        ("cudaErrorIllegalAddress", GpuLostError),
        ("cudaErrorDevicesUnavailable", GpuLostError),
    ],
)
def test_errors_of_cuda_become_errors_that_tell_what_to_do(error: str, raised: type[GpuError]) -> None:
    from engine.backends.cuda import checked

    with pytest.raises(raised, match=error) as caught:
        checked((getattr(cuda_runtime.cudaError_t, error),))
    assert caught.type is raised


def test_a_call_of_cuda_gives_what_lies_behind_its_code() -> None:
    from engine.backends.cuda import checked

    success = cuda_runtime.cudaError_t.cudaSuccess
    assert checked((success, 7)) == 7
    assert checked((success, 7, 8)) == (7, 8)
    assert checked((success,)) is None


def test_every_name_of_cuda_that_is_used_exists() -> None:
    import engine.backends.cuda as module

    used = set(
        re.findall(
            r"cudart\.((?:cudaError_t|cudaMemcpyKind|cudaStreamCaptureMode)?\.?\w+)",
            inspect.getsource(module),
        )
    )
    assert len(used) > 20
    for name in used:
        target = cuda_runtime
        for part in name.split("."):
            assert hasattr(target, part), name
            target = getattr(target, part)


def test_every_method_of_tensorrt_that_is_used_exists() -> None:
    trt = pytest.importorskip("tensorrt_rtx_bindings", reason="needs the extra rtx")
    import engine.backends.tensorrt as module

    source = inspect.getsource(module)
    for owner, variable in (
        (trt.Runtime, "runtime"),
        (trt.ICudaEngine, r"self\._engine"),
        (trt.IExecutionContext, r"self\._context"),
        (trt.IRuntimeConfig, "config"),
        (trt.IRuntimeCache, r"self\._cache"),
    ):
        used = set(re.findall(rf"{variable}\.(\w+)", source))
        assert used, owner
        for name in used:
            assert hasattr(owner, name), f"{owner.__name__}.{name}"


class _FailsOnce:
    """Stands for a GPU that is lost in its first run: a real one cannot be lost on demand."""

    name, provider = "rtx", "a GPU"

    def __init__(self, *, fails: bool) -> None:
        self._fails = fails
        self.is_closed = False

    def run(self, network: str, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        if self._fails:
            raise GpuLostError("The GPU failed.")
        return {"code": np.ones(1, np.float32)}

    def close(self) -> None:
        self.is_closed = True


def test_a_lost_gpu_costs_one_frame() -> None:
    opened: list[_FailsOnce] = []

    def open_() -> Backend:
        opened.append(_FailsOnce(fails=not opened))
        return opened[-1]

    backend = RestartingBackend(open_)
    with pytest.raises(GpuLostError):
        backend.run("pose_encoder", {})
    assert opened[0].is_closed
    assert backend.run("pose_encoder", {})["code"] == 1
    assert len(opened) == 2
    backend.close()
    assert opened[1].is_closed


@pytest.mark.gpu
class TestOnGpu:
    """Needs engines for this GPU in the store: `gcavt build BUNDLE --flavour FLAVOUR` of the tiny bundle."""

    @pytest.fixture(scope="class", params=["rtx", "tensorrt"])
    def backend(
        self,
        request: pytest.FixtureRequest,
        tiny_bundles: TinyBundles,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Iterator[Backend]:
        from engine.backends.cuda import compute_capability
        from engine.backends.tensorrt import TensorRtBackend
        from tests.trt_build.tiny_engines import build_tiny_engines

        target = compute_capability()
        store = build_tiny_engines(tiny_bundles, request.param, target, tmp_path_factory.mktemp("engines"))
        opened = TensorRtBackend(
            tiny_bundles.path("edit_repose"), flavour=request.param, precision="fp16", store=store
        )
        yield opened
        opened.close()

    @pytest.mark.parametrize("network", SPECS)
    @pytest.mark.parametrize("batch", [1, 3, 32])
    def test_networks_agree_with_pytorch(
        self, backend: Backend, tiny_bundles: TinyBundles, network: str, batch: int
    ) -> None:
        reference = open_backend("pytorch", tiny_bundles.path("edit_repose"))
        inputs = sample_inputs(SPECS[network], batch)
        assert largest_difference(backend.run(network, inputs), reference.run(network, inputs)) < 0.05

    def test_results_belong_to_the_caller(self, backend: Backend) -> None:
        spec = SPECS["pose_encoder"]
        first = backend.run("pose_encoder", sample_inputs(spec, 1, seed=1))["pose_code"]
        kept = first.copy()
        backend.run("pose_encoder", sample_inputs(spec, 1, seed=2))
        np.testing.assert_array_equal(first, kept)

    def test_a_graph_that_runs_again_sees_new_inputs(self, backend: Backend) -> None:
        spec = SPECS["pose_encoder"]
        codes = [
            backend.run("pose_encoder", sample_inputs(spec, 1, seed=seed))["pose_code"]
            for seed in (1, 2, 3, 1)
        ]
        np.testing.assert_array_equal(codes[0], codes[3])
        assert np.abs(codes[1] - codes[2]).max() > 1e-3

    def test_an_identity_that_cannot_be_written_is_copied_once(self, backend: Backend) -> None:
        inputs = sample_inputs(SPECS["generator"], 1)
        first = backend.run("generator", inputs)["image"]
        for array in inputs.values():
            array.setflags(write=False)
        for _ in range(2):
            np.testing.assert_array_equal(backend.run("generator", inputs)["image"], first)

    def test_too_large_a_batch_is_refused(self, backend: Backend) -> None:
        with pytest.raises(ValueError, match="batches of up to 32, got 33"):
            backend.run("pose_encoder", sample_inputs(SPECS["pose_encoder"], 33))

    def test_no_room_on_the_gpu_is_a_clear_error(self) -> None:
        from engine.backends.cuda import checked

        free, _ = checked(cuda_runtime.cudaMemGetInfo())
        with pytest.raises(GpuMemoryError, match="out of memory"):
            checked(cuda_runtime.cudaMalloc(2 * free))


def test_the_name_of_a_backend_says_its_precision() -> None:
    from engine.backends.backend import BACKENDS

    assert {"rtx", "rtx-int8", "tensorrt", "tensorrt-fp8"} <= set(BACKENDS)


def test_missing_engines_name_the_command_that_builds_them(tmp_path: Path) -> None:
    from engine.backends.tensorrt import _find
    from engine.errors import BundleError
    from trt_build.manifest import FILE_NAME, Manifest
    from trt_build.store import EngineKey, EngineStore

    key = EngineKey.of(Manifest.load(LITE / FILE_NAME), "rtx", "fp16", "1.7.1.116", ((8, 9),))
    with pytest.raises(BundleError, match=r"gcavt build lite --flavour rtx --precision fp16 --target 8\.9"):
        _find(LITE, EngineStore(tmp_path), key)
