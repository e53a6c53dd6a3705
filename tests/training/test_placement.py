import numpy as np
import torch

from gcavt.config import EditReposeGeneratorConfig
from gcavt.edit_repose import HeadGeometry
from training.datasets.placement import normal_depth, normal_pose, rendered_pose, world_scale


def test_no_placement_changes_nothing() -> None:
    pose = np.array([5.0, -10.0, 2.0, 0.1, -0.05, 0.3], np.float32)
    np.testing.assert_allclose(normal_pose(pose, np.zeros(3)), pose, atol=1e-6)
    assert world_scale(np.zeros(3)) == 1.0


def test_rendered_pose_undoes_normal_pose() -> None:
    rng = np.random.default_rng(0)
    poses = rng.normal(0, 1, (7, 6)).astype(np.float32)
    places = rng.normal(0, 0.5, (7, 3)).astype(np.float32)
    np.testing.assert_allclose(rendered_pose(normal_pose(poses, places), places), poses, atol=1e-5)


def test_scaling_the_world_about_the_camera_moves_no_pixel() -> None:
    rng = np.random.default_rng(1)
    geometry = HeadGeometry(EditReposeGeneratorConfig(), 256, 32)
    place = np.array([[0.02, -0.04, 0.9]], np.float32)
    depth = rng.uniform(0, 2, (1, 32, 32)).astype(np.float32)
    blend = rng.uniform(0, 1, (1, 1, 32, 32)).astype(np.float32)
    target, reference = (
        np.concatenate([rng.normal(0, 10, (1, 3)), place], 1).astype(np.float32) for _ in range(2)
    )

    def flow(depth_map: np.ndarray, target_pose: np.ndarray, reference_pose: np.ndarray) -> torch.Tensor:
        maps = torch.from_numpy(np.concatenate([depth_map[:, None], blend], 1))
        position: torch.Tensor = geometry(
            maps, torch.from_numpy(target_pose), torch.from_numpy(reference_pose)
        )
        return position

    raw = flow(depth, target, reference)
    normal = flow(normal_depth(depth, place), normal_pose(target, place), normal_pose(reference, place))
    torch.testing.assert_close(raw, normal, atol=2e-3, rtol=0)
