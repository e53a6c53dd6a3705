import numpy as np
import pytest
from numpy.typing import NDArray

from training.synthetic.occlusion import (
    ambient_occlusion,
    height_map,
    light_frame,
    seen_from_light,
    visibility,
)

_UP = np.array([0.0, 1.0, 0.0])


def _plate(height: float, half: float, cells: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """A level square about (0, height, 0.3), as a grid of vertices and its triangles."""
    x, z = np.meshgrid(np.linspace(-half, half, cells + 1), np.linspace(-half, half, cells + 1) + 0.3)
    vertices = np.stack([x, np.full_like(x, height), z], -1).reshape(-1, 3).astype(np.float32)
    corner = (np.arange(cells)[:, None] * (cells + 1) + np.arange(cells)).reshape(-1, 1)
    quads = corner + np.array([0, 1, cells + 2, cells + 1])
    return vertices, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)


def _lit(
    vertices: NDArray[np.float32], triangles: NDArray[np.int32], direction: NDArray[np.float64]
) -> NDArray[np.float32]:
    seen = seen_from_light(vertices, np.zeros_like(vertices), 0.0, light_frame(direction))
    asked = np.ones(len(vertices), np.bool_)
    return visibility(seen, asked, height_map(seen, triangles), 0.03, 0.09, 1)


@pytest.fixture
def floor_under_plate() -> tuple[NDArray[np.float32], NDArray[np.int32], int]:
    """A floor of half side 1.5 with a plate of half side 0.5 at 0.6 above its middle."""
    floor, floor_triangles = _plate(6.5, 1.5, 12)
    plate, plate_triangles = _plate(7.1, 0.5)
    triangles = np.concatenate([floor_triangles, plate_triangles + np.int32(len(floor))])
    return np.concatenate([floor, plate]), triangles, len(floor)


def test_plate_shadows_the_floor_right_below_it_and_nothing_else(
    floor_under_plate: tuple[NDArray[np.float32], NDArray[np.int32], int],
) -> None:
    vertices, triangles, floor_count = floor_under_plate
    lit = _lit(vertices, triangles, _UP)[:floor_count]
    reach = np.abs(vertices[:floor_count] - np.array([0, 6.5, 0.3])).max(1)
    assert lit[reach < 0.4].max() < 0.01
    assert lit[reach > 0.6].min() > 0.99


def test_slanting_light_moves_the_shadow_away_from_it(
    floor_under_plate: tuple[NDArray[np.float32], NDArray[np.int32], int],
) -> None:
    vertices, triangles, floor_count = floor_under_plate
    lit = _lit(vertices, triangles, np.array([1.0, 1.0, 0.0]))[:floor_count]
    dark = vertices[:floor_count][lit < 0.5]
    assert dark[:, 0].mean() == pytest.approx(-0.6, abs=0.1)


def test_ambient_light_is_dimmer_under_the_plate_than_in_the_open(
    floor_under_plate: tuple[NDArray[np.float32], NDArray[np.int32], int],
) -> None:
    vertices, triangles, floor_count = floor_under_plate
    normals = np.broadcast_to(_UP.astype(np.float32), vertices.shape).copy()
    sky = ambient_occlusion(vertices, normals, triangles)[:floor_count]
    reach = np.abs(vertices[:floor_count] - np.array([0, 6.5, 0.3])).max(1)
    assert sky[reach < 0.1].mean() < 0.7
    assert sky[reach > 1.4].mean() > 0.9


def test_light_frame_is_a_rotation_that_ends_at_the_light() -> None:
    frame = light_frame(np.array([0.3, 0.9, 0.4]))
    assert np.allclose(frame @ frame.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(frame) == pytest.approx(1, abs=1e-5)
    assert np.allclose(frame[2], np.array([0.3, 0.9, 0.4]) / np.linalg.norm([0.3, 0.9, 0.4]))
