"""The portraits' surfaces alone: depth, normals and light, taught with exact geometry.

The light is what turns the portrait's colours into the target's where the head has turned. With exact flow
and normals no generator is needed to teach it: minutes, before the joint stage goes on with it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcavt.edit_repose import HeadGeometry, relighting, sample
from training.objectives.edit_repose import (
    ReposerStage,
    edit_repose_generator,
    mean_figures,
    side_surface_error,
)
from training.objectives.exact_surface import exact_normals, known_at_64
from training.objectives.objective import Batch


class SurfaceStage(ReposerStage):
    """Depth, normals and light of the references, carried over to the target views by exact flow."""

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        encoder = edit_repose_generator(model).reference_encoder
        return (encoder.depth, encoder.side_depth, encoder.light)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        depth, normal, light, _, side = self._errors(model, batch)
        figures = {"depth": depth, "normal": normal, "light": light, "side": side}
        return depth + normal + 10 * light + side, {
            key: float(value.detach()) for key, value in figures.items()
        }

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Mean errors; light in 1/255 at 64 px, before and after relighting."""
        figures = []
        for batch in self.evaluation_batches():
            depth, normal, light, unlit, side = (float(e.detach()) for e in self._errors(model, batch))
            figures.append(
                {"depth": depth, "normal": normal, "light": 255 * light, "unlit": 255 * unlit, "side": side}
            )
        return mean_figures(figures)

    def _errors(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        generator = edit_repose_generator(model)
        encoder, geometry = generator.reference_encoder, generator.reposer.geometry_64
        with torch.no_grad():
            maps, side_maps = encoder.encode_portraits(batch["primary"], batch["side_images"])
        depth, normal, light = encoder.surface(maps)
        target_pose = batch["pose_code"][:, :6] * generator.reposer.pose_scale
        reference_pose = batch["reference_pose"]
        truth, known = known_at_64(batch["depth_blend"])
        position = geometry(truth, target_pose, reference_pose)
        placed = depth + F.pad(reference_pose[:, 5:6], (0, 1))[:, :, None, None]
        found = geometry.carry_over(position, sample(placed, position / 4), target_pose, reference_pose)
        count = known.sum().clamp_min(1)
        depth_error = ((found - truth).abs() * known).sum() / count
        before = F.normalize(sample(normal, position / 4), dim=1)
        after = HeadGeometry.turned(before, truth[:, 1:], reference_pose, target_pose)
        exact, smooth = exact_normals(generator.reposer.geometry_128, batch["depth_blend"])
        normal_error = ((1 - (after * exact).sum(1, keepdim=True)) * smooth).sum() / smooth.sum().clamp_min(1)
        edited = self.exact_edit(generator, batch)
        warped = sample(F.avg_pool2d(edited, 4), position / 4)
        target = F.avg_pool2d(batch["target"], 4)
        lit = warped * relighting(light, before, after)
        light_error, unlit = (((x - target).abs() * known).sum() / (3 * count) for x in (lit, warped))
        side_error = side_surface_error(
            generator.reposer.geometry_128, batch, encoder.side_surfaces(side_maps)
        )
        return depth_error, normal_error, light_error, unlit, side_error
