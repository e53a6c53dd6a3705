"""The GPU backends: without a GPU what they say and which names they use, with one what they compute."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from engine.backends.abilities import FaceLook, Results, run_together, to_bytes
from engine.backends.backend import Backend, Tensors, open_backend
from engine.backends.process import RemoteBackend, WorkerProcess
from engine.backends.restarting import RestartingBackend
from engine.bundle import PRETRAINED_DIR, Bundle
from engine.errors import GpuError, GpuLostError, GpuMemoryError
from engine.puppeteer import Puppeteer
from gcavt.preprocessing import crop_face, crop_from_box, mouth_crop, to_network, transform_points
from tests.bundles import TinyBundles, astronaut, tiny_config
from tests.engine.backends.host_kernels import host_kernels
from tests.engine.backends.paper_gpu import PaperCuda, PaperKernels, PaperTensorRt
from tests.trt_build.tiny_engines import build_tiny_engines
from trt_build.flavours import FLAVOURS, FlavourMissingError, FlavourName
from trt_build.manifest import FILE_NAME, Manifest
from trt_build.specs import engine_specs
from trt_build.store import EngineKey, EngineStore
from trt_build.verify import largest_difference, sample_inputs

if TYPE_CHECKING:
    from engine.backends.tensorrt import TensorRtBackend

    Opener = Callable[[], TensorRtBackend]

cuda_runtime = pytest.importorskip("cuda.bindings.runtime", reason="needs the extra rtx or tensorrt")

SPECS = engine_specs(tiny_config("edit_repose"))
LITE = PRETRAINED_DIR / "lite"
HAS_GPU = cuda_runtime.cudaGetDeviceCount()[0] == cuda_runtime.cudaError_t.cudaSuccess


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_without_a_gpu_the_backend_says_so() -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs the extra rtx")
    with pytest.raises(GpuError, match=r"There is no NVIDIA GPU to work with: .*gcavt doctor"):
        open_backend("rtx", LITE)


def test_every_method_of_tensorrt_that_is_used_exists() -> None:
    trt = pytest.importorskip("tensorrt_rtx_bindings", reason="needs the extra rtx")
    import engine.backends.tensorrt as module

    source = inspect.getsource(module)
    for owner, variable in (
        (trt.Runtime, "runtime"),
        (trt.ICudaEngine, r"self\._engine"),
        (trt.IExecutionContext, r"context"),
        (trt.IRuntimeConfig, "config"),
        (trt.IRuntimeCache, r"self\._cache"),
    ):
        used = set(re.findall(rf"{variable}\.(\w+)", source))
        assert used, owner
        for name in used:
            assert hasattr(owner, name), f"{owner.__name__}.{name}"


def agrees_with_pytorch(backend: Backend, bundles: TinyBundles, network: str, batch: int) -> None:
    reference = open_backend("pytorch", bundles.path("edit_repose"))
    inputs = sample_inputs(SPECS[network], batch)
    assert largest_difference(backend.run(network, inputs), reference.run(network, inputs)) < 0.05


def read_only(inputs: Tensors) -> Tensors:
    for array in inputs.values():
        array.setflags(write=False)
    return inputs


def gpu_engines(
    flavour: FlavourName, tiny_bundles: TinyBundles, tmp_path_factory: pytest.TempPathFactory
) -> Opener:
    """Opens a backend with engines of the tiny bundle that were built for this GPU."""
    from engine.backends.cuda import compute_capability
    from engine.backends.tensorrt import TensorRtBackend

    try:
        FLAVOURS[flavour].load()
    except FlavourMissingError as error:
        pytest.skip(str(error))
    target = compute_capability()
    if flavour == "rtx" and target[0] == 9:
        pytest.skip("TensorRT for RTX has no engines for compute capability 9")
    store = build_tiny_engines(tiny_bundles, flavour, target, tmp_path_factory.mktemp("engines"))
    bundle = tiny_bundles.path("edit_repose")
    return partial(TensorRtBackend, bundle, flavour=flavour, precision="fp16", store=store)


@dataclass
class Paper:
    """A GPU on paper with engines in its store."""

    cuda: PaperCuda
    trt: PaperTensorRt
    open: Opener


@pytest.fixture(
    scope="module",
    params=[("rtx", True), ("tensorrt", True), ("tensorrt", False)],
    ids=["rtx-late", "tensorrt-late", "tensorrt-early"],
)
def paper(
    request: pytest.FixtureRequest, tiny_bundles: TinyBundles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Paper]:
    import engine.backends.cuda as cuda_module
    import engine.backends.tensorrt as module

    bundle, (flavour, is_late) = tiny_bundles.path("edit_repose"), request.param
    cuda = PaperCuda(cuda_runtime, is_late=is_late)
    trt = PaperTensorRt(cuda, bundle, SPECS)
    kernels = PaperKernels(cuda, host_kernels(tmp_path_factory))
    played = SimpleNamespace(
        name=flavour,
        product="paper",
        load=lambda: trt,
        version=lambda: trt.__version__,
        log=lambda: SimpleNamespace(receiver=None),
    )
    store = EngineStore(tmp_path_factory.mktemp("paper"))
    key = EngineKey.of(Manifest.load(bundle / FILE_NAME), flavour, "fp16", trt.__version__, ((8, 9),))
    store.publish(key, {name: name.encode() for name in SPECS}, {name: {} for name in SPECS}, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_module, "cudart", cuda)
        patch.setattr(module, "Kernels", lambda target: kernels)
        patch.setattr(module, "FLAVOURS", {flavour: played})
        yield Paper(
            cuda, trt, partial(module.TensorRtBackend, bundle, flavour=flavour, precision="fp16", store=store)
        )
    trt.backend.close()


@pytest.fixture(scope="module", params=["rtx", "tensorrt"])
def engines(
    request: pytest.FixtureRequest, tiny_bundles: TinyBundles, tmp_path_factory: pytest.TempPathFactory
) -> Opener:
    return gpu_engines(request.param, tiny_bundles, tmp_path_factory)


class Checks:
    """What holds on a GPU, real or on paper."""

    @pytest.mark.parametrize("network", SPECS)
    @pytest.mark.parametrize("batch", [1, 3, 1])
    def test_networks_agree_with_pytorch(
        self, backend: TensorRtBackend, tiny_bundles: TinyBundles, network: str, batch: int
    ) -> None:
        agrees_with_pytorch(backend, tiny_bundles, network, batch)

    def test_results_belong_to_the_caller(self, backend: TensorRtBackend) -> None:
        spec = SPECS["pose_encoder"]
        first = backend.run("pose_encoder", sample_inputs(spec, 1, seed=1))["pose_code"]
        kept = first.copy()
        backend.run("pose_encoder", sample_inputs(spec, 1, seed=2))
        np.testing.assert_array_equal(first, kept)

    def test_a_graph_that_runs_again_sees_new_inputs(self, backend: TensorRtBackend) -> None:
        spec = SPECS["pose_encoder"]
        codes = [
            backend.run("pose_encoder", sample_inputs(spec, 1, seed=seed))["pose_code"]
            for seed in (1, 2, 3, 1)
        ]
        np.testing.assert_array_equal(codes[0], codes[3])
        assert np.abs(codes[1] - codes[2]).max() > 1e-3

    def test_an_identity_that_cannot_be_written_is_copied_once(self, backend: TensorRtBackend) -> None:
        inputs = sample_inputs(SPECS["generator"], 1)
        first = backend.run("generator", inputs)["image"]
        other = sample_inputs(SPECS["generator"], 1, seed=7)
        for _ in range(2):
            np.testing.assert_array_equal(backend.run("generator", read_only(inputs))["image"], first)
            backend.run("generator", other)  # whose arrays can be written, and take the same place

    def test_sessions_that_come_and_go_keep_their_own_identities(self, backend: TensorRtBackend) -> None:
        sessions = [read_only(sample_inputs(SPECS["generator"], 1, seed=seed)) for seed in range(5)]
        alone = [backend.run("generator", inputs)["image"] for inputs in sessions]
        for present in ([0, 1, 2], [2, 0, 1, 3], [4, 1, 3], [3], [0, 1, 2, 3, 4], [4, 3, 2, 1, 0]):
            together = run_together(backend, "generator", [sessions[index] for index in present])
            for index, results in zip(present, together, strict=True):
                np.testing.assert_allclose(results["image"], alone[index], atol=0.02)

    def test_pictures_leave_as_the_bytes_that_the_cpu_would_make(self, backend: TensorRtBackend) -> None:
        requests = [sample_inputs(SPECS["generator"], 1, seed=seed) for seed in range(3)]
        results = backend.run_together("generator", requests)
        for picture, floats in zip(backend.draw_together(requests), results, strict=True):
            np.testing.assert_array_equal(picture.image_HWC, to_bytes(floats["image"][0]))
            np.testing.assert_array_equal(picture.mask_HW, to_bytes(floats["mask"][0]))

    @pytest.mark.parametrize("side_px", [60.0, 150.0, 330.0])
    def test_faces_are_read_as_the_cpu_cuts_them(
        self, backend: TensorRtBackend, tiny_bundles: TinyBundles, side_px: float
    ) -> None:
        look = look_at_astronaut(side_px)
        puppeteer = Puppeteer(Bundle.open(tiny_bundles.path("edit_repose")), backend)
        crop = crop_face(look.image_HWC, look.crop_from_image)
        read = puppeteer.codes_of_face(crop, look.landmarks_68)
        expected = {
            "pose_encoder": read.pose_code,
            "expression_encoder": read.expression_code,
            "content_encoder": read.content_code,
        }
        for seed in range(3):  # plainly, captured, and once more
            kept = {encoder: read_only(sample_inputs(SPECS[encoder], 1, seed=seed)) for encoder in expected}
            before = {encoder: backend.run(encoder, inputs) for encoder, inputs in kept.items()}
            backend.read_face(look_at_astronaut(side_px + 40))
            codes = backend.read_face(look)
            for encoder, inputs in kept.items():
                assert largest_difference(backend.run(encoder, inputs), before[encoder]) < 1e-3
            for encoder, code in expected.items():
                np.testing.assert_allclose(codes[encoder], code, atol=0.02, err_msg=encoder)

    def test_the_kernels_of_the_gpu_cut_what_cv2_cuts(self, backend: TensorRtBackend) -> None:
        from engine.backends.cuda import Buffer, DeviceMemory, Stream, make_current
        from engine.backends.face_plan import cut_crop, cut_picture, encoder_cuts, face_plan

        look = look_at_astronaut(330.0)
        plan = face_plan(look)
        make_current()
        stream = Stream()
        part, crop = Buffer((plan.part_HWC.size,), np.uint8), Buffer((256, 256, 3), np.uint8)
        part.host[...] = plan.part_HWC.reshape(-1)
        part.upload(0, part.host.size, stream)
        shrunk = DeviceMemory(part.host.size)
        cut_crop(backend._kernels, stream, plan, part.address, shrunk.address, crop.address)
        crop.download(256, stream)
        config = tiny_config("edit_repose")
        cut = encoder_cuts(["content_encoder"], look.landmarks_68, config)["content_encoder"]
        mouth = Buffer((3, cut.side_px, cut.side_px))
        cut_picture(backend._kernels, stream, cut, crop.address, 0, mouth.address)
        mouth.download(3, stream)
        stream.wait()
        found, mouth_found = crop.host.copy(), mouth.host.copy()
        for memory in (part, crop, shrunk, mouth, stream):
            memory.close()
        expected = crop_face(look.image_HWC, look.crop_from_image)
        assert np.abs(found.astype(int) - expected).max() <= 1
        side_px = tiny_config("edit_repose").mouth_px
        mouth_expected = to_network(mouth_crop(expected, look.landmarks_68, side_px))
        assert np.abs(mouth_found - mouth_expected).max() <= 2 / 255

    def test_too_large_a_batch_is_refused(self, backend: TensorRtBackend) -> None:
        with pytest.raises(ValueError, match="batches of 1 to 32, got 33"):
            backend.run("pose_encoder", sample_inputs(SPECS["pose_encoder"], 33))


class TestOnPaper(Checks):
    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls, paper: Paper) -> Iterator[TensorRtBackend]:
        opened = paper.open()
        yield opened
        opened.close()

    def test_the_largest_batch_agrees_with_pytorch(
        self, backend: TensorRtBackend, tiny_bundles: TinyBundles
    ) -> None:
        agrees_with_pytorch(backend, tiny_bundles, "pose_encoder", 32)

    def test_everything_is_given_back(self, paper: Paper) -> None:
        before = paper.cuda.live
        opened = paper.open()
        for batch in (1, 3):
            opened.run("generator", sample_inputs(SPECS["generator"], batch))
        opened.draw_together([sample_inputs(SPECS["generator"], 1)])
        opened.read_face(look_at_astronaut(150.0))
        opened.read_face(look_at_astronaut(330.0))
        assert paper.cuda.live > before
        opened.close()
        assert paper.cuda.live == before

    def test_sizes_take_turns_without_a_new_capture(self, paper: Paper, backend: TensorRtBackend) -> None:
        inputs = {batch: sample_inputs(SPECS["pose_encoder"], batch) for batch in (1, 3, 8)}
        for batch in inputs:
            backend.run("pose_encoder", inputs[batch])
        before = paper.trt.executions
        for batch in (1, 3, 8, 3, 1):
            backend.run("pose_encoder", inputs[batch])
        captures_itself = backend.name == "rtx"
        assert paper.trt.executions - before == (5 if captures_itself else 0)


@pytest.mark.gpu
class TestOnGpu(Checks):
    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls, engines: Opener) -> Iterator[TensorRtBackend]:
        opened = engines()
        yield opened
        opened.close()

    @pytest.mark.parametrize("network", SPECS)
    def test_the_largest_batch_agrees_with_pytorch(
        self, backend: TensorRtBackend, tiny_bundles: TinyBundles, network: str
    ) -> None:
        agrees_with_pytorch(backend, tiny_bundles, network, 32)

    def test_no_room_on_the_gpu_is_a_clear_error(self) -> None:
        from engine.backends.cuda import checked

        free, _ = checked(cuda_runtime.cudaMemGetInfo())
        with pytest.raises(GpuMemoryError, match="out of memory"):
            checked(cuda_runtime.cudaMalloc(2 * free))


def open_poisonable(open_: Opener, threads: int | None) -> Backend:
    """A backend whose network `poison` has the GPU write where nothing is, as a faulty driver might."""
    from engine.backends.cuda import Stream

    backend = open_()
    run = backend.run

    def run_or_poison(network: str, inputs: Tensors) -> Results:
        if network == "poison":
            stream = Stream()
            backend._kernels.finish(stream, 1, 1, 8, 8, 8, 8)
            stream.wait()
        return run(network, inputs)

    backend.run = run_or_poison  # type: ignore[method-assign]
    return backend


@pytest.mark.gpu
def test_a_gpu_that_is_lost_comes_back_for_all_in_a_new_process(engines: Opener) -> None:
    inputs = sample_inputs(SPECS["pose_encoder"], 1)
    process = WorkerProcess(partial(open_poisonable, engines))
    backends = [RestartingBackend(partial(RemoteBackend, process, None)) for _ in range(2)]
    expected = [backend.run("pose_encoder", inputs)["pose_code"] for backend in backends]
    first = process.pid
    with pytest.raises(GpuLostError, match="IllegalAddress"):
        backends[0].run("poison", {})
    with pytest.raises(GpuLostError):
        backends[1].run("pose_encoder", inputs)
    for backend, code in zip(backends, expected, strict=True):
        np.testing.assert_array_equal(backend.run("pose_encoder", inputs)["pose_code"], code)
    assert process.pid not in (None, first)
    for backend in backends:
        backend.close()


def look_at_astronaut(side_px: float) -> FaceLook:
    image = astronaut()
    rng = np.random.default_rng(0)
    landmarks_68 = (rng.uniform(-0.5, 0.5, (68, 2)) * side_px + [222, 110]).astype(np.float32)
    half = side_px / 2
    crop_from_image = crop_from_box(np.array([222 - half, 110 - half, 222 + half, 110 + half]))
    return FaceLook(
        image_HWC=image,
        crop_from_image=crop_from_image,
        landmarks_68=transform_points(landmarks_68, crop_from_image),
        encoders=("pose_encoder", "expression_encoder", "content_encoder"),
    )


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
