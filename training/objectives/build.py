"""From a recipe to its objective, data opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
import torch.nn.functional as F

from engine.errors import BadMediaError
from gcavt.config import FacePoseEncoderConfig, GcavtConfig
from gcavt.edit_repose import EditReposeGenerator
from gcavt.model import Gcavt
from training.datasets.triples import NO_DEPTH, Triples
from training.objectives.counterfactual import CounterfactualStage
from training.objectives.edit_repose import EditorStage, JointStage, ReposerStage
from training.objectives.gan import EditorGanStage, GanStage, ReposerGanStage
from training.objectives.objective import Objective
from training.objectives.self_driven import SelfDrivenStage
from training.objectives.surface import SurfaceStage
from training.recipes import TrainConfig

STAGES: dict[str, Callable[[Triples, TrainConfig, GcavtConfig], Objective]] = {
    "editor": EditorStage,
    "reposer": ReposerStage,
    "surface": SurfaceStage,
    "joint": JointStage,
    "counterfactual": CounterfactualStage,
    "self_driven": SelfDrivenStage,
    "gan": GanStage,
    "editor_gan": EditorGanStage,
    "reposer_gan": ReposerGanStage,
}


def build_objective(
    config: TrainConfig,
    model_config: GcavtConfig,
    data: Path,
    *,
    fresh_model: Gcavt | None = None,
    real: Path | None = None,
    teacher: Path | None = None,
    faces: Path | None = None,
    triples: Triples | None = None,
) -> Objective:
    """The recipe's objective; a fresh model's re-poser starts from the data's mean geometry.

    `real` is a file of `training.prepare.pseudo_labels`, for the image encoders; `faces` a folder of
    `training.datasets.faces`, for their corrections; `teacher` the checkpoint that `distil` needs; `triples`
    take the place of the folder's where given. Raises BadMediaError where data or teacher are missing.
    """
    if config.objective == "audio":
        from training.objectives.audio import AudioStage

        return AudioStage(config, data)
    if config.objective == "sync":
        from training.objectives.sync import SyncStage

        return SyncStage(config, data)
    if faces is not None and config.objective in ("pose", "expression", "content"):
        return _from_many_people(config, model_config, faces, real)
    if config.objective == "pose" and isinstance(model_config.pose, FacePoseEncoderConfig):
        raise BadMediaError(
            "this pose encoder learns from many people: draw them with python -m training.datasets.faces and "
            "name their folder by --faces"
        )
    if triples is None:
        triples = Triples(data)
    if config.objective in ("pose", "expression", "content"):
        from training.datasets.real_frames import RealFrames
        from training.objectives.encoders import ImageEncoderStage

        return ImageEncoderStage(
            triples, config, model_config, config.objective, RealFrames(real) if real else None
        )
    if config.objective == "distil":
        from training.objectives.distil import DistilStage

        if teacher is None:
            raise BadMediaError("distil needs a teacher: --teacher CHECKPOINT")
        return DistilStage(triples, config, model_config, teacher)
    if fresh_model is not None and config.objective != "editor":
        if isinstance(fresh_model.generator, EditReposeGenerator):
            start_from_mean_geometry(fresh_model, Triples(data))
    return STAGES[config.objective](triples, config, model_config)


def _from_many_people(
    config: TrainConfig, model_config: GcavtConfig, folder: Path, real: Path | None
) -> Objective:
    from training.datasets.faces import Faces
    from training.datasets.real_frames import RealFrames
    from training.objectives.face_coefficients import FaceCoefficientStage
    from training.objectives.face_pairs import FacePairs
    from training.objectives.face_pose import FacePoseStage

    pairs = FacePairs(Faces(folder), RealFrames(real) if real else None, config.real_share)
    if config.objective == "pose":
        return FacePoseStage(pairs, model_config)
    encoder = cast(Literal["expression", "content"], config.objective)
    return FaceCoefficientStage(pairs, model_config, encoder)


def start_from_mean_geometry(model: Gcavt, triples: Triples, every: int = 11) -> None:
    """Bias of the re-poser's geometry prior: mean depth (less translation z) and blend over the data."""
    index = np.arange(0, len(triples), every)
    depth = triples.depth(index)
    known = depth > NO_DEPTH + 1
    depth = depth - triples.pose(index)[:, 5, None, None]
    blend = np.asarray(triples.triple("blend", index), np.float32) / 255
    count = known.sum(0)
    means = [
        np.where(count > 5, (values * known).sum(0) / np.maximum(count, 1), fallback)
        for values, fallback in ((depth, 0.3), (blend, 0.8))
    ]
    mean = torch.from_numpy(np.stack(means).astype(np.float32))[None]
    generator = cast(EditReposeGenerator, model.generator)
    generator.reference_encoder.depth.set_mean(mean[0])
    generator.reposer.set_mean_geometry(F.adaptive_avg_pool2d(mean, generator.reposer.prior_px)[0])
