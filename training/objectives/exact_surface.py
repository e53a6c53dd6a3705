"""What the true depth of a target view says at 64 px, where the re-poser reasons about it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gcavt.edit_repose import HeadGeometry
from training.datasets.triples import NO_DEPTH


def known_at_64(depth_blend_B2HW: Tensor) -> tuple[Tensor, Tensor]:
    """Exact depth and blend (B, 2, 64, 64), and 1 where all of a cell shows the person (B, 1, 64, 64)."""
    known = (depth_blend_B2HW[:, :1] > NO_DEPTH + 1).float()
    share = F.avg_pool2d(known, 2)
    return F.avg_pool2d(depth_blend_B2HW * known, 2) / share.clamp_min(0.25), (share > 0.99).float()


def exact_normals(geometry_128: HeadGeometry, depth_blend_B2HW: Tensor) -> tuple[Tensor, Tensor]:
    """Unit normals (B, 3, 64, 64) of the surface, towards the camera, and 1 where they can be told.

    By differences over three cells: a cell that has no person on one side says nothing.
    """
    z = depth_blend_B2HW[:, :1]
    known = (z > NO_DEPTH + 1).float()
    half = geometry_128.image_px / 2
    scale = (geometry_128.distance - z) / geometry_128.focal_px
    x = (geometry_128.grid[:, :1] - half) * scale
    y = geometry_128.height - (geometry_128.grid[:, 1:] - half) * scale
    points = F.avg_pool2d(torch.cat([x, y, z], 1) * known, 2) / F.avg_pool2d(known, 2).clamp_min(0.25)
    across = F.pad(points[..., 2:] - points[..., :-2], (1, 1, 0, 0))
    down = F.pad(points[..., 2:, :] - points[..., :-2, :], (0, 0, 1, 1))
    normal = torch.linalg.cross(down, across, dim=1)
    whole = -F.max_pool2d(-(F.avg_pool2d(known, 2) > 0.99).float(), 3, 1, 1)
    return F.normalize(normal, dim=1), whole
