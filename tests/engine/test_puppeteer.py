from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.assets import face_landmarker_path
from engine.backends.backend import Backend, open_backend
from engine.bundle import Bundle
from engine.codes import DrivingCodes
from engine.errors import BundleError, NoFaceError
from engine.face_tracker import FaceTracker
from engine.puppeteer import IdentityState, Puppeteer
from gcavt.code_space import pose_from_code
from gcavt.preprocessing import crop_face, crop_from_box, transform_points
from tests.bundles import MEMBERS, Member, TinyBundles, astronaut
from trt_build.specs import engine_specs


class Opened:
    """A puppeteer with the bundle and the backend it was made of."""

    def __init__(self, path: Path) -> None:
        self.bundle = Bundle.open(path)
        self.backend: Backend = open_backend("openvino", path, threads=1)
        self.puppeteer = Puppeteer(self.bundle, self.backend)


@pytest.fixture(scope="module")
def opened(tiny_bundles: TinyBundles) -> dict[Member, Opened]:
    return {member: Opened(tiny_bundles.path(member)) for member in MEMBERS}


@pytest.fixture(params=MEMBERS)
def member(request: pytest.FixtureRequest) -> Member:
    chosen: Member = request.param
    return chosen


@pytest.fixture(scope="module")
def tracker() -> Iterator[FaceTracker]:
    with FaceTracker(face_landmarker_path()) as opened_tracker:
        yield opened_tracker


def _codes() -> DrivingCodes:
    rng = np.random.default_rng(0)
    return DrivingCodes(*(rng.standard_normal(n).astype(np.float32) for n in (12, 256, 256)))


def _generate(puppeteer: Puppeteer, identity: IdentityState) -> np.typing.NDArray[np.uint8]:
    return puppeteer.generate(identity, *_codes())[0]


def test_a_frame_is_uint8_with_a_mask(opened: dict[Member, Opened], member: Member) -> None:
    puppeteer = opened[member].puppeteer
    image, mask = puppeteer.generate(puppeteer.identity_from_bank("astronaut"), *_codes())
    assert (image.shape, image.dtype.name) == ((256, 256, 3), "uint8")
    assert (mask.shape, mask.dtype.name) == ((256, 256), "uint8")
    assert image.flags.c_contiguous and mask.std() > 0


def test_the_picture_is_the_generators_rounded(opened: dict[Member, Opened], member: Member) -> None:
    puppeteer, backend = opened[member].puppeteer, opened[member].backend
    identity, codes = puppeteer.identity_from_bank("astronaut"), _codes()
    # a pose that the puppeteer has no reason to bend back
    codes = codes._replace(pose_code=np.clip(codes.pose_code, -0.3, 0.3))
    inputs = {**identity.tensors, **{name: code[None] for name, code in codes._asdict().items()}}
    expected = backend.run("generator", inputs)["image"][0].transpose(1, 2, 0) * 255
    image, _ = puppeteer.generate(identity, *codes)
    assert np.abs(image - expected).max() <= 0.5 + 1e-3


def test_an_identity_holds_all_that_the_generator_needs_beside_codes(
    opened: dict[Member, Opened], member: Member
) -> None:
    identity = opened[member].puppeteer.identity_from_bank("astronaut")
    needed = {t.name: t.with_batch(1) for t in engine_specs(opened[member].bundle.config)["generator"].inputs}
    del needed["pose_code"], needed["expression_code"], needed["content_code"]
    assert {name: tensor.shape for name, tensor in identity.tensors.items()} == needed


def test_photos_make_an_identity_on_black(
    opened: dict[Member, Opened], member: Member, tracker: FaceTracker
) -> None:
    puppeteer = opened[member].puppeteer
    identity = puppeteer.identity_from_portraits([astronaut()], tracker)
    assert identity.portrait_HWC.shape == (256, 256, 3)
    assert identity.portrait_HWC[:8, :8].max() < 40
    assert _generate(puppeteer, identity).shape == (256, 256, 3)


def test_a_photo_s_pose_is_read_with_its_background(
    opened: dict[Member, Opened], tracker: FaceTracker
) -> None:
    puppeteer = opened["edit_repose"].puppeteer
    face = tracker.find_in_photo(astronaut())
    assert face is not None
    crop_from_photo = crop_from_box(face.box_xyxy)
    crop = crop_face(astronaut(), crop_from_photo, outside="replicate")
    landmarks = transform_points(face.landmarks_68, crop_from_photo)
    identity = puppeteer.identity_from_portraits([astronaut()], tracker)
    np.testing.assert_allclose(
        identity.tensors["reference_pose"][0], pose_from_code(puppeteer.pose_code(crop, landmarks)), atol=1e-5
    )


def test_several_photos_share_one_identity_code(opened: dict[Member, Opened], tracker: FaceTracker) -> None:
    puppeteer = opened["adain"].puppeteer
    photo = astronaut()
    darker = (photo * 0.5).astype(np.uint8)
    codes = [
        puppeteer.identity_from_portraits(photos, tracker).tensors["identity_code"]
        for photos in ([photo], [darker], [photo, darker])
    ]
    np.testing.assert_allclose(codes[2], (codes[0] + codes[1]) / 2, atol=1e-4)


def test_a_photo_without_a_face_is_named_by_its_number(
    opened: dict[Member, Opened], tracker: FaceTracker
) -> None:
    wall = np.full((200, 200, 3), 128, np.uint8)
    with pytest.raises(NoFaceError, match="photo 2 of 2"):
        opened["adain"].puppeteer.identity_from_portraits([astronaut(), wall], tracker)


def test_an_identity_without_numbers_is_measured(tiny_bundle: Path) -> None:
    path = tiny_bundle / "identities" / "astronaut" / "identity.json"
    path.write_text(json.dumps({"name": "astronaut", "reference_pose": None, "crop_origin": None}))
    opened = Opened(tiny_bundle)
    identity = opened.puppeteer.identity_from_bank("astronaut")
    x, y = identity.tensors["crop_origin"][0, :2]
    assert 20 < x < 100 and 20 < y < 100
    assert identity.tensors["reference_pose"].any()


def test_an_unknown_identity_is_a_bundle_error(opened: dict[Member, Opened]) -> None:
    with pytest.raises(BundleError, match="no identity 'nobody'"):
        opened["adain"].puppeteer.identity_from_bank("nobody")


def test_driving_codes_have_the_sizes_of_their_sockets(
    opened: dict[Member, Opened], tracker: FaceTracker
) -> None:
    photo = astronaut()
    face = tracker.find_in_photo(photo)
    assert face is not None
    crop_from_photo = crop_from_box(face.box_xyxy)
    crop, landmarks = crop_face(photo, crop_from_photo), transform_points(face.landmarks_68, crop_from_photo)
    codes = opened["edit_repose"].puppeteer.codes_of_face(crop, landmarks)
    assert [code.shape for code in codes] == [(12,), (256,), (256,)]


def test_a_mel_window_gives_a_code_of_length_16(opened: dict[Member, Opened]) -> None:
    window = np.random.default_rng(0).random((80, 20), np.float32)
    code = opened["edit_repose"].puppeteer.content_code_from_mel(window)
    assert code.shape == (256,)
    assert np.linalg.norm(code) == pytest.approx(16, rel=1e-3)


def test_idle_rests_where_no_motion_is_known(opened: dict[Member, Opened]) -> None:
    puppeteer = opened["adain"].puppeteer
    identity = puppeteer.identity_from_bank("astronaut")
    assert puppeteer.idle_codes(3.0, identity) is identity.rest
    with pytest.raises(BundleError, match="idle needs an identity"):
        puppeteer.idle_codes(3.0)


def test_idle_moves_in_an_exact_code_space(opened: dict[Member, Opened]) -> None:
    puppeteer = opened["edit_repose"].puppeteer
    assert not np.allclose(puppeteer.idle_codes(1.0).pose_code, puppeteer.idle_codes(3.0).pose_code)


def test_the_engine_runs_without_torch(tiny_bundles: TinyBundles) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from engine.backends.backend import open_backend\n"
        "from engine.bundle import Bundle\n"
        "from engine.puppeteer import Puppeteer\n"
        "path = Path(sys.argv[1])\n"
        "puppeteer = Puppeteer(Bundle.open(path), open_backend('openvino', path, threads=1))\n"
        "identity = puppeteer.identity_from_bank('astronaut')\n"
        "print(puppeteer.generate(identity, *puppeteer.idle_codes(0.0))[0].shape)\n"
    )
    path = str(tiny_bundles.path("edit_repose"))
    result = subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "(256, 256, 3)"
