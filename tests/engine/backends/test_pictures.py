"""The GPU's kernels, compiled for the CPU and held against cv2 and gcavt.preprocessing."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.backends.abilities import FaceLook, Results, to_bytes
from engine.backends.backend import Backend, Tensors, open_backend
from engine.backends.face_plan import (
    Border,
    Cut,
    cut_crop,
    cut_picture,
    encoder_cuts,
    face_plan,
    follows_plans,
)
from engine.bundle import Bundle
from engine.codes import SOCKETS
from engine.puppeteer import Puppeteer
from gcavt.config import FacePoseEncoderConfig, GcavtConfig, MobileNetEncoderConfig
from gcavt.preprocessing import (
    CROP_PX,
    crop_face,
    crop_from_box,
    expression_input,
    face_box,
    mouth_crop,
    pose_input,
    shrinking_for,
    to_network,
    transform_points,
)
from tests.bundles import TinyBundles, astronaut
from tests.engine.backends.host_kernels import HostKernels, address_of, host_kernels


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> HostKernels:
    return host_kernels(tmp_path_factory)


def photo(height: int = 480, width: int = 640) -> NDArray[np.uint8]:
    """A real picture, with edges that run off it on every side."""
    return np.ascontiguousarray(cv2.resize(astronaut(), (width, height), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 7])
def test_a_picture_is_made_smaller_as_opencv_does_it(kernels: HostKernels, factor: int) -> None:
    image = photo()
    height, width = 480 // factor, 640 // factor
    small = np.zeros((height, width, 3), np.uint8)
    kernels.shrink(None, address_of(image), 640, (width, height), factor, to_bytes=address_of(small))
    part = image[: height * factor, : width * factor]
    np.testing.assert_array_equal(small, cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize(
    ("border", "flag"),
    [
        (Border.REFLECT_101, cv2.BORDER_REFLECT_101),
        (Border.REPLICATE, cv2.BORDER_REPLICATE),
        (Border.BLACK, cv2.BORDER_CONSTANT),
    ],
)
def test_a_picture_is_warped_as_opencv_does_it(kernels: HostKernels, border: Border, flag: int) -> None:
    image, rng = photo(), np.random.default_rng(0)
    for _ in range(20):
        turn, scale = rng.uniform(-0.6, 0.6), rng.uniform(0.4, 1.4)
        cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
        x, y = rng.uniform(-250, 80, 2)
        matrix = np.array([[cosine, -sine, x], [sine, cosine, y]], np.float32)
        inverse = cv2.invertAffineTransform(matrix.astype(np.float64)).astype(np.float32)
        warped = np.zeros((256, 256, 3), np.uint8)
        source = address_of(image)
        kernels.warp(None, source, (640, 480), 256, inverse, border, to_bytes=address_of(warped))
        expected = cv2.warpAffine(image, matrix, (256, 256), flags=cv2.INTER_LINEAR, borderMode=flag)
        difference = np.abs(warped.astype(int) - expected)
        # the last bit of a coordinate may differ where OpenCV's vector code does not reach
        assert difference.max() <= 1 and (difference > 0).mean() < 1e-4


def test_floats_are_what_the_network_would_have_been_given(kernels: HostKernels) -> None:
    image = photo(256, 256)
    mask = np.full((128, 128), 255, np.uint8)
    mask[40:60, 30:90] = 0
    floats = np.zeros((3, 128, 128), np.float32)
    kernels.shrink(
        None,
        address_of(image),
        256,
        (128, 128),
        2,
        mask=address_of(mask),
        to_floats=address_of(floats),
    )
    small = cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA)
    kept = np.asarray(cv2.bitwise_and(small, small, mask=mask), np.uint8)
    np.testing.assert_array_equal(floats, to_network(kept))


def test_finished_pictures_are_those_of_the_cpu(kernels: HostKernels) -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(-0.01, 1.01, (3, 3, 64, 64)).astype(np.float32)
    image[0, 0, 0, :4] = [0.5 / 255, 1.5 / 255, 2.5 / 255, 300]  # halves go to the even neighbour
    mask = rng.uniform(0, 1, (3, 1, 64, 64)).astype(np.float32)
    drawn, opaque = np.zeros((3, 64, 64, 3), np.uint8), np.zeros((3, 64, 64), np.uint8)
    kernels.finish(None, 3, 64 * 64, *[address_of(array) for array in (image, mask, drawn, opaque)])
    for index in range(3):
        np.testing.assert_array_equal(drawn[index], to_bytes(image[index]))
        np.testing.assert_array_equal(opaque[index], to_bytes(mask[index]))


# -- faces -------------------------------------------------------------------------------------------------


def look_at(
    image_HWC: NDArray[np.uint8], side_px: float, centre: tuple[float, float], turn_deg: float
) -> FaceLook:
    """A face of plausible landmarks that is so large, there, and turned so far in its plane."""
    rng = np.random.default_rng(3)
    landmarks = face_shape() + rng.normal(0, 0.003, (68, 2))
    turn = np.radians(turn_deg)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = (side_px * landmarks @ rotation.T + np.array(centre)).astype(np.float32)
    crop_from_image = crop_from_box(face_box(np.repeat(points, 7, axis=0)))
    return FaceLook(
        image_HWC=image_HWC,
        crop_from_image=crop_from_image,
        landmarks_68=transform_points(points, crop_from_image),
        encoders=("pose_encoder", "expression_encoder", "content_encoder"),
    )


def face_shape() -> NDArray[np.float64]:
    """68 landmarks of a frontal face about its middle, one unit high."""

    def arc(
        count: int, x: float, y: float, rx: float, ry: float, start: float, end: float
    ) -> NDArray[np.float64]:
        angles = np.linspace(start, end, count)
        return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)

    full = (np.pi, 3 * np.pi)
    return np.concatenate(
        [
            arc(17, 0, 0, 0.4, 0.5, np.pi, 0),
            arc(5, -0.19, -0.25, 0.13, 0.05, np.pi, 2 * np.pi),
            arc(5, 0.19, -0.25, 0.13, 0.05, np.pi, 2 * np.pi),
            np.stack([np.zeros(4), np.linspace(-0.18, 0.05, 4)], axis=1),
            np.stack([np.linspace(-0.08, 0.08, 5), np.full(5, 0.09)], axis=1),
            arc(7, -0.19, -0.15, 0.08, 0.03, *full)[:6],
            arc(7, 0.19, -0.15, 0.08, 0.03, *full)[:6],
            arc(13, 0, 0.25, 0.15, 0.06, *full)[:12],
            arc(9, 0, 0.25, 0.12, 0.03, *full)[:8],
        ]
    )


LITE = GcavtConfig.lite()
CASES = {
    "in the middle, half as large": (360.0, (320.0, 240.0), 4.0),
    "very near the camera": (900.0, (640.0, 400.0), -8.0),
    "running off a corner": (300.0, (90.0, 60.0), 15.0),
    "about as large as the crop": (150.0, (300.0, 200.0), -3.0),
    "smaller than the crop": (60.0, (400.0, 300.0), 10.0),
}


def cut_by(kernels: HostKernels, look: FaceLook, config: GcavtConfig) -> dict[str, NDArray[np.float32]]:
    """The encoders' pictures, by the same steps as on a GPU."""
    plan = face_plan(look)
    shrunk = np.zeros_like(plan.part_HWC)
    crop = np.zeros((CROP_PX, CROP_PX, 3), np.uint8)
    found = cut_crop(kernels, None, plan, *map(address_of, (plan.part_HWC, shrunk, crop)))
    pictures = {}
    cuts = encoder_cuts(look.encoders, look.landmarks_68, config)
    for encoder, cut in cuts.items():
        pictures[encoder] = np.full((3, cut.side_px, cut.side_px), np.nan, np.float32)
        mask = 0 if cut.mask_HW is None else address_of(cut.mask_HW)
        cut_picture(kernels, None, cut, found, mask, address_of(pictures[encoder]))
    return pictures


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("face_zoom", [1.0, 1.8])
def test_the_encoders_see_what_the_cpu_would_show_them(
    kernels: HostKernels, case: str, face_zoom: float
) -> None:
    pose = MobileNetEncoderConfig(input_px=128) if face_zoom == 1.0 else FacePoseEncoderConfig()
    config = replace(LITE, expression=replace(LITE.expression, face_zoom=face_zoom), pose=pose)
    look = look_at(photo(800, 1280), *CASES[case])
    pictures = cut_by(kernels, look, config)
    crop, landmarks = crop_face(look.image_HWC, look.crop_from_image), look.landmarks_68
    expected = {
        "pose_encoder": pose_input(crop, landmarks, config.pose.input_px, config.pose.face_zoom),
        "expression_encoder": expression_input(crop, landmarks, config.expression.input_px, face_zoom),
        "content_encoder": mouth_crop(crop, landmarks, config.mouth_px),
    }
    for encoder, image in expected.items():
        difference = np.abs(pictures[encoder] - to_network(image)) * 255
        assert difference.max() <= 2, encoder
        assert (difference > 0.5).mean() < 1e-3, encoder


def test_the_cases_make_pictures_smaller_by_several_factors() -> None:
    factors = {
        shrinking_for((800, 1280), look_at(photo(800, 1280), *case).crop_from_image).factor
        for case in CASES.values()
    }
    assert len(factors) >= 3


@pytest.mark.parametrize("config", [GcavtConfig.lite(), GcavtConfig.paper(), GcavtConfig.tiny()])
def test_every_shipped_size_can_be_cut(config: GcavtConfig) -> None:
    assert follows_plans(config)


@pytest.mark.parametrize("target", [(8, 0), (8, 9), (9, 0), (12, 0)])
def test_the_kernels_compile_for_gpus(target: tuple[int, int]) -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="needs the extra rtx or tensorrt")
    from engine.backends.kernels import SOURCE, compiled

    code = compiled(SOURCE.read_text(), target)
    assert code.startswith(b"\x7fELF")
    for name in (b"shrink", b"warp", b"finish"):
        assert name in code


def test_what_does_not_compile_says_why() -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="needs the extra rtx or tensorrt")
    from engine.backends.kernels import compiled
    from engine.errors import GpuError

    with pytest.raises(GpuError, match=r"compute capability 8\.9: pictures\.cu\(1\): error"):
        compiled("no kernel", (8, 9))


class CutsFaces:
    """A CPU backend that reads faces as a GPU does: by plan and kernels, instead of cv2."""

    name, provider, reads_faces = "cuts-faces", "CPU", True

    def __init__(self, backend: Backend, kernels: HostKernels, config: GcavtConfig) -> None:
        self._backend = backend
        self._kernels = kernels
        self._config = config

    def run(self, network: str, inputs: Tensors) -> Results:
        return self._backend.run(network, inputs)

    def read_face(self, look: FaceLook) -> Results:
        pictures = cut_by(self._kernels, look, self._config)
        cuts = encoder_cuts(look.encoders, look.landmarks_68, self._config)
        return {encoder: self._read(cut, pictures[encoder], encoder) for encoder, cut in cuts.items()}

    def _read(self, cut: Cut, picture: NDArray[np.float32], network: str) -> NDArray[np.float32]:
        landmarks = {name: values[None] for name, values in cut.landmarks.items()}
        code: NDArray[np.float32] = self._backend.run(network, {cut.tensor: picture[None]} | landmarks)[
            cut.code
        ]
        return np.asarray(code[0])

    def close(self) -> None:
        self._backend.close()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("model", ["tiny", "lite"])
def test_codes_read_on_a_device_are_those_read_on_the_cpu(
    kernels: HostKernels, tiny_bundles: TinyBundles, case: str, model: str
) -> None:
    bundle = Bundle.open("lite" if model == "lite" else tiny_bundles.path("edit_repose"))
    backend = open_backend("onnxruntime", bundle.directory, threads=1)
    look = look_at(photo(800, 1280), *CASES[case])
    face = (look.image_HWC, look.crop_from_image, look.landmarks_68)
    expected = Puppeteer(bundle, backend).codes_in_picture(*face, SOCKETS)
    cutting = CutsFaces(backend, kernels, bundle.config)
    found = Puppeteer(bundle, cutting).codes_in_picture(*face, SOCKETS)
    assert set(found) == set(expected) == {"pose", "expression", "mouth"}
    for socket, code in expected.items():
        atol = 2e-2 if model == "lite" else 2e-3  # a trained network hears more of what is rounded otherwise
        np.testing.assert_allclose(found[socket], code, atol=atol, err_msg=socket)
    backend.close()
