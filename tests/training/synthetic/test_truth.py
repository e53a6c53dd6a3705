import cv2
import numpy as np
import pytest

from training.synthetic import truth
from training.synthetic.identity import Identity, Scene
from training.synthetic.performance import both, weight_vector
from training.synthetic.raster import CAMERA_DISTANCE
from training.synthetic.renderer import Render, Renderer


def test_warping_the_reference_by_the_flow_gives_the_edited_frame_where_seen(
    renderer: Renderer, reference: Render
) -> None:
    """A smile with raised brows moves much skin but hardly turns it, so its light stays."""
    smile = weight_vector({**both("mouthSmile", 0.5), "browInnerUp": 0.6})
    smiling = renderer.render(smile, reference.pose_6)
    flow, visibility = truth.flow(smiling, reference)
    y, x = np.mgrid[:256, :256].astype(np.float32)
    warped = cv2.remap(reference.image, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)
    moved = (visibility == 2) & (np.abs(flow).max(-1) > 0.5)
    assert moved.sum() > 500

    def psnr(image: np.ndarray) -> float:
        error = image[moved].astype(np.float64) - smiling.image[moved]
        return float(10 * np.log10(255**2 / (error**2).mean()))

    assert psnr(warped) > 29
    assert psnr(warped) > psnr(reference.image) + 8


def test_flow_to_the_frame_itself_is_zero_and_all_seen(reference: Render) -> None:
    flow, visibility = truth.flow(reference, reference)
    assert np.abs(flow).max() < 0.05
    assert np.array_equal(visibility == 2, reference.alpha > 0)


def test_flow_follows_the_landmarks(reference: Render, edited: Render) -> None:
    """The skin below the lower lip moves by what the flow says at its place."""
    here, there = truth.landmarks(edited), truth.landmarks(reference)
    below_lip = 200
    flow, visibility = truth.flow(edited, reference)
    x, y = here[below_lip].astype(int)
    assert visibility[y, x] == 2
    assert here[below_lip, 1] - there[below_lip, 1] > 2
    assert np.allclose(flow[y, x], there[below_lip] - here[below_lip], atol=0.5)


def test_flow_at_half_size_is_half_as_long(reference: Render, edited: Render) -> None:
    full, _ = truth.flow(edited, reference)
    half, visibility = truth.flow(edited, reference, 128)
    seen = visibility == 2
    assert np.allclose(half[seen], full[1::2, 1::2][seen] / 2, atol=1e-4)


def test_depth_map_agrees_with_the_z_buffer_and_blend_falls_along_the_neck(reference: Render) -> None:
    z, blend = truth.depth_and_blend(reference)
    covered = reference.alpha > 0
    assert np.abs((CAMERA_DISTANCE - z - reference.depth_RR)[covered]).max() < 1e-3
    assert (z[~covered] == truth.EMPTY_Z).all() and (blend[~covered] == 0).all()
    nose = truth.landmarks(reference)[1].astype(int)
    assert blend[nose[1], nose[0]] == 1
    assert blend[255, 128] < 0.05


def test_flow_between_two_people_is_refused(identity: Identity, reference: Render) -> None:
    other = Renderer(identity, Scene.from_seed(6)).render(reference.weights_52, reference.pose_6)
    with pytest.raises(ValueError, match="one Renderer"):
        truth.flow(reference, other)


def test_grid_that_does_not_divide_the_raster_is_refused(reference: Render) -> None:
    with pytest.raises(ValueError, match="divide the raster side 256, got 100"):
        truth.depth_and_blend(reference, 100)
