import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from training.synthetic.identity import Identity, Scene
from training.synthetic.raster import project
from training.synthetic.renderer import Render, Renderer, rotation_matrix
from training.synthetic.shading import Segment


def test_equal_seeds_make_equal_people_and_pictures(identity: Identity, reference: Render) -> None:
    again = Identity(5)
    assert np.array_equal(again.vertices_V3, identity.vertices_V3)
    picture = Renderer(again, Scene.from_seed(5)).render(reference.weights_52, reference.pose_6)
    assert np.array_equal(picture.image, reference.image)


def test_different_seeds_make_different_people(identity: Identity) -> None:
    other = Identity(6)
    assert np.abs(other.vertices_V3 - identity.vertices_V3).max() > 0.05
    assert np.abs(other.skin_colour - identity.skin_colour).max() > 0.01


def test_visible_vertices_project_to_pixels_of_their_own_depth(reference: Render) -> None:
    """A vertex is at or behind the nearest surface about its pixel, and most of the face's are on it."""
    screen = project(reference.vertices_N3[reference.landmark_vertices_468], len(reference.image))
    nearest = cv2.erode(reference.depth_RR, np.ones((3, 3)))
    column, row = screen[:, 0].astype(int), screen[:, 1].astype(int)
    assert (screen[:, 2] > nearest[row, column] - 0.02).all()
    assert (np.abs(screen[:, 2] - reference.depth_RR[row, column]) < 0.02).mean() > 0.5


def test_background_is_exactly_black_where_alpha_is_zero(reference: Render) -> None:
    assert set(np.unique(reference.alpha)) == {0, 255}
    assert np.array_equal(reference.alpha > 0, reference.segmentation != Segment.BACKGROUND)
    assert (reference.image[reference.alpha == 0] == 0).all()


def test_scene_background_leaves_the_figure_as_it_is(identity: Identity, reference: Render) -> None:
    renderer = Renderer(identity, Scene.from_seed(5), background="scene")
    framed = renderer.render(reference.weights_52, reference.pose_6)
    covered = reference.alpha > 0
    assert np.array_equal(framed.image[covered], reference.image[covered])
    assert framed.image[~covered].mean() > 20


def test_supersampling_softens_alpha_and_keeps_the_picture(identity: Identity, reference: Render) -> None:
    smooth = Renderer(identity, Scene.from_seed(5), supersampling=2)
    render = smooth.render(reference.weights_52, reference.pose_6)
    assert len(np.unique(render.alpha)) > 2
    error = render.image.astype(np.float64) - reference.image
    assert 10 * np.log10(255**2 / (error**2).mean()) > 30


@pytest.mark.parametrize(
    ("pose", "axis", "sign"),
    [((10, 0, 0), 1, 1), ((0, 15, 0), 0, 1)],
    ids=["pitch looks down", "yaw turns to the picture's right"],
)
def test_positive_pose_moves_the_nose(
    renderer: Renderer, pose: tuple[float, float, float], axis: int, sign: int
) -> None:
    nose = renderer.identity.pack.landmark_vertices_468[[1]]
    still = renderer.posed_vertices(np.zeros(52, np.float32), np.zeros(6, np.float32))[nose]
    turned = renderer.posed_vertices(np.zeros(52, np.float32), np.array([*pose, 0, 0, 0], np.float32))[nose]
    moved = project(turned, 256) - project(still, 256)
    assert sign * moved[0, axis] > 3


def test_rotation_matrix_is_a_rotation() -> None:
    matrix = rotation_matrix(20, -35, 10)
    assert np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-5)


def test_open_jaw_shows_the_mouth_inside(
    reference: Render, edited: Render, open_mouth: NDArray[np.float32]
) -> None:
    inside = [Segment.MOUTH, Segment.TEETH, Segment.TONGUE]
    assert np.isin(edited.segmentation, inside).sum() > np.isin(reference.segmentation, inside).sum() + 100
    assert np.array_equal(edited.weights_52, open_mouth)


def test_wrong_shapes_and_supersampling_are_refused(identity: Identity, renderer: Renderer) -> None:
    with pytest.raises(ValueError, match=r"\(51,\)"):
        renderer.render(np.zeros(51), np.zeros(6))
    with pytest.raises(ValueError, match="supersampling must be 1 or 2, got 3"):
        Renderer(identity, Scene.from_seed(5), supersampling=3)
