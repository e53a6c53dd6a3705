"""Stages of the edit_repose generator: the editor alone, the re-poser alone, both joined."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gcavt import code_space
from gcavt.config import EditReposeGeneratorConfig, GcavtConfig
from gcavt.edit_repose import EditReposeGenerator, HeadGeometry, Repose, Sides
from gcavt.model import Gcavt
from gcavt.preprocessing import OUTER_EYE_CORNERS
from training.datasets.triples import NO_DEPTH, Triples
from training.objectives.exact_surface import exact_normals, known_at_64
from training.objectives.feature_loss import FeatureLoss
from training.objectives.image_losses import (
    box_mask,
    eye_boxes,
    laplacian_l1,
    mouth_boxes,
    psnr,
    region_error,
    structural_dissimilarity,
    to_tensor,
    weighted_l1,
)
from training.objectives.objective import Batch
from training.recipes import TrainConfig

HELD_OUT_IDENTITIES = 12
EVALUATION_TRIPLES = 64
LIGHT_WEIGHT = 2.0
"""Of the warped picture's broad brightness against the target's, so that light is not painted."""
PAINT_WEIGHT = 0.2
"""Of paint where the warped picture is right already but for a pixel's shift: there it would only blur."""
UNCOVERED_DEG = 10.0
RIGHT_COLOUR = 0.05
"""Difference at 64 px, of a range of 1, below which the warped picture counts as right."""


class EditReposeStage:
    """Shared data handling of the three stages."""

    def __init__(self, triples: Triples, config: TrainConfig, model_config: GcavtConfig) -> None:
        generator = model_config.generator
        assert isinstance(generator, EditReposeGeneratorConfig)
        self.triples = triples
        self.config = config
        self.crop_hw = (generator.crop_height_px, generator.crop_width_px)
        self.identity_px = model_config.identity.input_px
        self.train_index, held_out = triples.split(HELD_OUT_IDENTITIES)
        step = max(1, len(held_out) // EVALUATION_TRIPLES)
        self.evaluation_index = held_out[::step][:EVALUATION_TRIPLES]

    def draw(self, rng: np.random.Generator, batch_size: int) -> Batch:
        index = np.sort(rng.choice(self.train_index, batch_size))
        single = rng.random(batch_size) < self.config.single_reference_share
        return self.batch(index, single)

    def batch(self, index: NDArray[np.integer], single: NDArray[np.bool_]) -> Batch:
        """The references, codes and crops of some triples; `single` withholds all but the first reference."""
        rows = self.triples.reference_of[index]
        primary = self.triples.reference("reference_image", rows)
        origin = np.array(self.triples.reference("reference_origin", rows), np.float32)
        secondary = np.where(
            single[:, None, None, None], primary, self.triples.reference("reference_second", rows)
        )
        origin[single, 2:] = origin[single, :2]
        landmarks = np.asarray(self.triples.reference("reference_landmarks", rows), np.float32)
        in_crop = landmarks - origin[:, None, :2]
        weights = {key: np.asarray(self.triples.triple(key, index)) for key in ("expression", "mouth")}
        return {
            "index": index,
            "primary": to_tensor(primary),
            "secondary": to_tensor(secondary),
            "origin": torch.from_numpy(origin),
            "reference_pose": torch.from_numpy(self.triples.reference_pose(rows)),
            **sides_of(self.triples, rows, single),
            "expression_code": torch.from_numpy(code_space.expression_code(weights["expression"])),
            "content_code": torch.from_numpy(code_space.content_code(weights["mouth"])),
            "edited": to_tensor(self.triples.triple("edited", index)),
            "crop_landmarks": in_crop,
            "mouth_mask": box_mask(mouth_boxes(in_crop, below_px=22.0), *self.crop_hw),
            "eye_mask": box_mask(eye_boxes(in_crop), *self.crop_hw),
        }

    def noisy_codes(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Expression and content codes with the noise that encoders will have."""
        expression, content = batch["expression_code"], batch["content_code"]
        noise = self.config.code_noise
        return expression + noise * torch.randn_like(expression), content + noise * torch.randn_like(content)

    def evaluation_batches(self, size: int = 8) -> Iterable[Batch]:
        for index in np.array_split(self.evaluation_index, max(1, len(self.evaluation_index) // size)):
            yield self.batch(index, np.zeros(len(index), bool))


def sides_of(triples: Triples, rows: NDArray[np.integer], single: NDArray[np.bool_]) -> Batch:
    """Side portraits of references; `single` puts the primary in their place."""
    images = np.array(triples.reference("side_images", rows))
    poses = triples.side_poses(rows)
    if single.any():
        images[single] = triples.reference("reference_image", rows[single])[:, None]
        poses[single] = triples.reference_pose(rows[single])[:, None]
    left, right = to_tensor(images[:, 0]), to_tensor(images[:, 1])
    return {
        "side_images": torch.cat([left, right], 1),
        "side_poses": torch.from_numpy(poses.reshape(-1, 12)),
    }


def edit_repose_generator(model: nn.Module) -> EditReposeGenerator:
    generator = cast(Gcavt, model).generator
    assert isinstance(generator, EditReposeGenerator)
    return generator


def editor_modules(generator: EditReposeGenerator) -> tuple[nn.Module, ...]:
    """The editor with what reads the face crops for it."""
    encoder = generator.reference_encoder
    editors = (encoder.editor_1, encoder.editor_2, encoder.editor_4, encoder.editor_8)
    return (generator.editor, *editors, encoder.skip_1, encoder.skip_2, encoder.skip_4)


def reposer_modules(generator: EditReposeGenerator) -> tuple[nn.Module, ...]:
    """The re-poser with what reads the portraits for it; the light has a stage of its own."""
    encoder = generator.reference_encoder
    maps = (encoder.map_4, encoder.map_8, encoder.map_16)
    return (generator.reposer, *maps, encoder.depth, encoder.side_depth)


def crop_weight(batch: Batch, config: TrainConfig) -> Tensor:
    """(B, 1, crop height, crop width) weights of the editor's pixels."""
    weight: Tensor = 1 + config.mouth_weight * batch["mouth_mask"] + config.eye_weight * batch["eye_mask"]
    return weight


def mean_figures(figures: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(float(np.mean([f[key] for f in figures])), 3) for key in figures[0]}


class EditorStage(EditReposeStage):
    """The reference crop with the target's face, against the exact edited render."""

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        return editor_modules(edit_repose_generator(model))

    def draw(self, rng: np.random.Generator, batch_size: int) -> Batch:
        batch = super().draw(rng, batch_size)
        batch["flow"] = torch.from_numpy(
            np.asarray(self.triples.triple("flow", batch["index"]), np.float32)
        ).permute(0, 3, 1, 2)
        batch["visible"] = torch.from_numpy(np.asarray(self.triples.triple("visible", batch["index"])) == 2)
        return batch

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        _, loss, figures = self.edit(model, batch)
        return loss, figures

    def edit(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, dict[str, float]]:
        """The edited crop, its loss and the loss's parts."""
        generator = edit_repose_generator(model)
        encoder = generator.reference_encoder
        crops = self.crops(generator, batch)
        edit = generator.editor(*self.noisy_codes(batch), crops, encoder.encode_crops(crops))
        output = generator.editor.compose(crops, edit)
        weight = crop_weight(batch, self.config)
        pixel = weighted_l1(output, batch["edited"], weight)
        flow_weight = F.avg_pool2d(weight, 2) * batch["visible"][:, None].float()
        gap = (F.avg_pool2d(edit.flow, 2) - batch["flow"]).abs().clamp(max=24)
        flow = (gap * flow_weight).sum() / flow_weight.sum().clamp_min(1)
        total = 2 * pixel + laplacian_l1(output, batch["edited"], weight) + 0.15 * flow
        return output, total, {"pixel": float(pixel.detach()), "flow_px": float(flow.detach())}

    @staticmethod
    def crops(generator: EditReposeGenerator, batch: Batch) -> Tensor:
        encoder = generator.reference_encoder
        origin = batch["origin"]
        first = encoder.crop(batch["primary"], origin[:, :2])
        return torch.cat([first, encoder.crop(batch["secondary"], origin[:, 2:])], 1)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        generator = edit_repose_generator(model)
        figures = []
        for batch in self.evaluation_batches():
            crops = self.crops(generator, batch)
            features = generator.reference_encoder.encode_crops(crops)
            edit = generator.editor(batch["expression_code"], batch["content_code"], crops, features)
            output, target = generator.editor.compose(crops, edit), batch["edited"]
            change = (output - crops[:, :3]).flatten(1)
            true_change = (target - crops[:, :3]).flatten(1)
            figures.append(
                {
                    "psnr": psnr(output, target),
                    "mouth": region_error(output, target, batch["mouth_mask"]),
                    "mouth_copy": region_error(crops[:, :3], target, batch["mouth_mask"]),
                    "eyes": region_error(output, target, batch["eye_mask"]),
                    "eyes_copy": region_error(crops[:, :3], target, batch["eye_mask"]),
                    "cosine": float(F.cosine_similarity(change, true_change).mean()),
                }
            )
        return mean_figures(figures)


class Reposed(NamedTuple):
    """The re-poser's output and what it was given."""

    result: Repose
    pose_code: Tensor
    reference_pose: Tensor
    """In degrees and head units."""
    sides: Sides


class ReposerStage(EditReposeStage):
    """The target view from the exactly edited reference, with exact depth, blend and flow."""

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        return (*reposer_modules(edit_repose_generator(model)), cast(Gcavt, model).identity_encoder)

    def batch(self, index: NDArray[np.integer], single: NDArray[np.bool_]) -> Batch:
        batch = super().batch(index, single)
        landmarks = np.asarray(self.triples.triple("landmarks", index), np.float32)
        depth = self.triples.depth(index)
        blend = np.asarray(self.triples.triple("blend", index), np.float32) / 255
        rows = self.triples.reference_of[index]
        side_blend = np.asarray(self.triples.reference("side_blend", rows), np.float32) / 255
        batch |= {
            "side_depth_blend": torch.from_numpy(np.stack([self.triples.side_depth(rows), side_blend], 2)),
            "has_sides": torch.from_numpy(~single),
            "target": to_tensor(self.triples.triple("target", index)),
            "alpha": torch.from_numpy(np.asarray(self.triples.triple("alpha", index), np.float32) / 255)[
                :, None
            ],
            "pose_code": torch.from_numpy(code_space.pose_code(self.triples.pose(index))),
            "depth_blend": torch.from_numpy(np.stack([depth, blend], 1)),
            "target_landmarks": landmarks,
            "target_mouth": box_mask(mouth_boxes(landmarks), 256, 256),
            "target_eyes": box_mask(eye_boxes(landmarks), 256, 256),
        }
        return batch

    def exact_edit(self, generator: EditReposeGenerator, batch: Batch) -> Tensor:
        origin = batch["origin"][:, :2]
        crop = generator.reference_encoder.crop(batch["primary"], origin)
        return generator.paste(batch["primary"], batch["edited"] - crop, origin)

    def edited(
        self, generator: EditReposeGenerator, batch: Batch, codes: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The portrait as the editor edits it, and its crop."""
        crops = EditorStage.crops(generator, batch)
        edit = generator.editor(*codes, crops, generator.reference_encoder.encode_crops(crops))
        crop = generator.editor.compose(crops, edit)
        return generator.paste(batch["primary"], crop - crops[:, :3], batch["origin"][:, :2]), crop

    def edit_to_repose(
        self, generator: EditReposeGenerator, batch: Batch, codes: tuple[Tensor, Tensor]
    ) -> Tensor:
        """The exactly edited portrait, or in `own_edit_share` of the batch the editor's, which learns not."""
        exact = self.exact_edit(generator, batch)
        if not self.config.own_edit_share:
            return exact
        with torch.no_grad():
            own = self.edited(generator, batch, codes)[0]
        return torch.where(torch.rand(len(own), 1, 1, 1) < self.config.own_edit_share, own, exact)

    def repose(self, model: nn.Module, batch: Batch, edited: Tensor, codes: tuple[Tensor, Tensor]) -> Reposed:
        joined = cast(Gcavt, model)
        generator = edit_repose_generator(model)
        pose_code, reference_pose = batch["pose_code"], batch["reference_pose"]
        side_poses = batch["side_poses"]
        if self.config.pose_noise and model.training:
            scale = generator.reposer.pose_scale
            noise = self.config.pose_noise
            pose_code = pose_code + noise * F.pad(torch.randn_like(pose_code[:, :6]), (0, 6))
            reference_pose = reference_pose + noise * scale * torch.randn_like(reference_pose)
            side_poses = side_poses + noise * scale.repeat(2) * torch.randn_like(side_poses)
        portrait = F.interpolate(batch["primary"], size=(self.identity_px,) * 2, mode="area")
        identity_code = joined.identity_encoder(portrait)
        encoder = generator.reference_encoder
        maps, side_maps = encoder.encode_portraits(batch["primary"], batch["side_images"])
        sides = Sides(side_poses, batch["side_images"], encoder.side_surfaces(side_maps))
        given = (
            encoder.surface(maps),
            identity_code,
            pose_code,
            *codes,
            reference_pose,
            batch["origin"],
            sides,
        )
        result = generator.reposer(edited, batch["primary"], maps, *given)
        return Reposed(result, pose_code, reference_pose, sides)

    def importance(self, batch: Batch) -> Tensor:
        """(B, 1, 256, 256) weights of the target's pixels."""
        weight: Tensor = (
            1
            + self.config.mouth_weight * batch["target_mouth"]
            + self.config.eye_weight * batch["target_eyes"]
        )
        return weight

    def image_and_geometry_loss(
        self, model: nn.Module, batch: Batch, reposed: Reposed
    ) -> tuple[Tensor, dict[str, float]]:
        reposer = edit_repose_generator(model).reposer
        result, target_pose = reposed.result, reposed.pose_code[:, :6] * reposer.pose_scale
        target, truth = batch["target"], batch["depth_blend"]
        weight = self.importance(batch)
        pixel = weighted_l1(result.image, target, weight)
        image = (
            2 * pixel + laplacian_l1(result.image, target, weight) + F.l1_loss(result.mask, batch["alpha"])
        )
        known = (truth[:, :1] > NO_DEPTH + 1).float()
        truth_64, whole = known_at_64(truth)
        depth = ((result.depth_blend_128 - truth).abs() * known).sum() / known.sum()
        depth = depth + 0.5 * ((result.depth_blend_64 - truth_64).abs() * whole).sum() / whole.sum()
        with torch.no_grad():
            exact = reposer.geometry_128(truth, target_pose, reposed.reference_pose)
        importance = known * F.avg_pool2d(weight, 2)
        gap = (result.position_128 - exact).abs().clamp(max=40)
        flow = (gap * importance).sum() / importance.sum()
        gap_64 = F.avg_pool2d(result.lit - target, 4).abs().mean(1, keepdim=True)
        light = (gap_64 * whole).sum() / whole.sum()
        right = whole * (gap_64 < RIGHT_COLOUR)
        paint = (F.avg_pool2d(1 - result.keep, 4) * right).sum() / whole.sum()
        exact_normal, smooth = exact_normals(reposer.geometry_128, truth)
        normal = ((1 - (result.normal_64 * exact_normal).sum(1, keepdim=True)) * smooth).sum() / smooth.sum()
        side = side_surface_error(reposer.geometry_128, batch, reposed.sides.surfaces)
        total = (
            image + depth + 0.05 * flow + LIGHT_WEIGHT * light + PAINT_WEIGHT * paint + 0.5 * normal + side
        )
        figures = {
            "pixel": float(pixel.detach()),
            "depth": float(depth.detach()),
            "flow_px": float(flow.detach()),
            "light": float(light.detach()),
            "normal": float(normal.detach()),
            "paint": float(paint.detach()),
            "side": float(side.detach()),
        }
        if self.config.structure_weight:
            structure = structural_dissimilarity(result.image, target)
            total = total + self.config.structure_weight * structure
            figures |= {"structure": float(structure.detach())}
        return total, figures

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        codes = self.noisy_codes(batch)
        edited = self.edit_to_repose(edit_repose_generator(model), batch, codes)
        return self.image_and_geometry_loss(model, batch, self.repose(model, batch, edited, codes))

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        generator = edit_repose_generator(model)
        figures = []
        for batch in self.evaluation_batches():
            found = self._figures(model, batch, self.exact_edit(generator, batch))
            if self.config.own_edit_share:
                codes = batch["expression_code"], batch["content_code"]
                behind = self._figures(model, batch, self.edited(generator, batch, codes)[0])
                found |= {f"{name}_behind_editor": value for name, value in behind.items()}
            figures.append(found)
        return mean_figures(figures)

    def _figures(self, model: nn.Module, batch: Batch, edited: Tensor) -> dict[str, float]:
        codes = batch["expression_code"], batch["content_code"]
        result, pose_code, reference_pose, _ = self.repose(model, batch, edited, codes)
        output, target = result.image, batch["target"]
        reposer = edit_repose_generator(model).reposer
        truth = batch["depth_blend"]
        known = (truth[:, :1] > NO_DEPTH + 1).float()
        exact = reposer.geometry_128(truth, pose_code[:, :6] * reposer.pose_scale, reference_pose)
        gap = ((result.position_128 - exact).norm(dim=1, keepdim=True) * known).sum() / known.sum()
        return {
            "psnr": psnr(output, target),
            "ssim": 1 - float(structural_dissimilarity(output.clamp(0, 1), target)),
            "all": region_error(output, target, torch.ones_like(result.mask)),
            "mouth": region_error(output, target, batch["target_mouth"]),
            "eyes": region_error(output, target, batch["target_eyes"]),
            "flow_px": float(gap),
            "uncovered": region_error(output, target, uncovered(batch)),
        }


def side_surface_error(geometry_128: HeadGeometry, batch: Batch, surfaces_B10HW: Tensor) -> Tensor:
    """Depth, blend and normals found in the side portraits against exact ones."""
    truth = batch["side_depth_blend"].flatten(0, 1)
    truth_64, whole = known_at_64(truth)
    whole = whole * batch["has_sides"].repeat_interleave(2)[:, None, None, None]
    found = surfaces_B10HW.reshape(-1, 5, *surfaces_B10HW.shape[2:])
    placed = found[:, :2] + F.pad(batch["side_poses"].reshape(-1, 6)[:, 5:], (0, 1))[:, :, None, None]
    normal, smooth = exact_normals(geometry_128, truth)
    smooth = smooth * batch["has_sides"].repeat_interleave(2)[:, None, None, None]
    depth = ((placed - truth_64).abs() * whole).sum() / whole.sum().clamp_min(1)
    turned = ((1 - (found[:, 2:] * normal).sum(1, keepdim=True)) * smooth).sum() / smooth.sum().clamp_min(1)
    error: Tensor = depth + 0.5 * turned
    return error


def uncovered(batch: Batch) -> Tensor:
    """(B, 1, 256, 256) 1 where the target, turned by more than 10 degrees, shows the side turned to us.

    That side of the head is the half of the figure away from where the face looks: what a frontal portrait
    shows least of.
    """
    alpha = batch["alpha"]
    turn = batch["pose_code"][:, 1] * float(code_space.POSE_SCALE[1]) - batch["reference_pose"][:, 1]
    middle = torch.from_numpy(batch["target_landmarks"][:, list(OUTER_EYE_CORNERS), 0])
    across = torch.arange(alpha.shape[3])[None] + 0.5
    beside = torch.where(turn[:, None] > 0, across < middle.amin(1, True), across > middle.amax(1, True))
    inside = beside & (turn.abs() > UNCOVERED_DEG)[:, None]
    shown: Tensor = (alpha > 0.5).float() * inside[:, None, None].float()
    return shown


class JointStage(ReposerStage):
    """Editor and re-poser together: what is shipped is what is trained.

    The feature loss looks through the encoders that the run was started with, so these are trained before.
    """

    features: FeatureLoss | None = None

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        return (edit_repose_generator(model), cast(Gcavt, model).identity_encoder)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        codes = self.noisy_codes(batch)
        edited, crop = self.edited(edit_repose_generator(model), batch, codes)
        weight = 1 + 0.5 * (crop_weight(batch, self.config) - 1)
        edit_loss = weighted_l1(crop, batch["edited"], weight) + 0.5 * laplacian_l1(
            crop, batch["edited"], weight
        )
        reposed = self.repose(model, batch, edited, codes)
        loss, figures = self.image_and_geometry_loss(model, batch, reposed)
        result = reposed.result
        figures |= {"edit": float(edit_loss.detach())}
        if self.config.feature_weight:
            if self.features is None:
                self.features = FeatureLoss(cast(Gcavt, model))
            feature_loss = self.features(result.image, batch["target"], batch["target_landmarks"])
            loss = loss + self.config.feature_weight * feature_loss
            figures |= {"features": float(feature_loss.detach())}
        return loss + edit_loss, figures

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        generator = edit_repose_generator(model)
        figures = []
        for batch in self.evaluation_batches():
            codes = batch["expression_code"], batch["content_code"]
            figures.append(self._figures(model, batch, self.edited(generator, batch, codes)[0]))
        return mean_figures(figures)
