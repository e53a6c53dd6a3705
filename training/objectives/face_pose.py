"""Teaches a pose encoder that sees the face: many people seldom, the truth known, real frames among them.

What counts is where the head's points end up in the picture, so that is the loss: a pitch that is misread
together with a height that makes up for it shows less than either alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gcavt import code_space, preprocessing
from gcavt.augmentation import through_webcam, without_identity
from gcavt.config import LANDMARK_NUMBERS, EditReposeGeneratorConfig, FacePoseEncoderConfig, GcavtConfig
from gcavt.edit_repose import rotation_matrix
from gcavt.face_pose_encoder import FacePoseEncoder
from gcavt.model import Gcavt
from training.datasets.real_frames import RealFrame
from training.objectives.face_pairs import FacePairs
from training.objectives.objective import Batch
from training.synthetic.head_pack import Material, load_head_pack

JITTER_PX = 0.5
"""Standard deviation of the noise on tracked landmarks, of 256 px: where the window lies varies, too."""
TURN_DEG = 10.0
WINDOW_UNIT_PX = 16.0
"""Landmarks as the second target: pixels of the window over this."""
LANDMARK_WEIGHT = 0.3
CODE_WEIGHT = 0.3
_HEAD_POINTS = 120


class FacePoseStage:
    """Both frames of a pair must be where they are, and their motion must be right."""

    def __init__(self, pairs: FacePairs, model_config: GcavtConfig) -> None:
        pose = model_config.pose
        if not isinstance(pose, FacePoseEncoderConfig):
            raise ValueError(f"the pose encoder of {model_config.name} does not see the face")
        self.pose = pose
        self.pairs = pairs
        self.points = head_points()
        self.landmarks = nn.Linear(pose.features, LANDMARK_NUMBERS)

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        return (cast(Gcavt, model).pose_encoder, self.landmarks)

    def draw(self, rng: np.random.Generator, batch_size: int) -> Batch:
        return _batch([self._sample(frame, rng) for frame in self.pairs.draw(rng, batch_size, TURN_DEG)])

    def _sample(self, frame: RealFrame, rng: np.random.Generator | None) -> tuple[NDArray[np.float32], ...]:
        image, tracked = frame.image, frame.landmarks_68
        if rng is not None:
            image = through_webcam(image, rng)
            tracked = tracked + rng.normal(0, JITTER_PX, tracked.shape).astype(np.float32)
        size = self.pose.input_px
        picture = preprocessing.pose_input(image, tracked, size, self.pose.face_zoom)
        if rng is not None:
            picture = without_identity(picture, rng)
        window = preprocessing.face_window(tracked, size, self.pose.face_zoom * size / preprocessing.CROP_PX)
        exact = np.full((68, 2), np.nan, np.float32)
        if frame.exact_68 is not None:
            exact = (preprocessing.transform_points(frame.exact_68, window) - (size - 1) / 2) / WINDOW_UNIT_PX
        return (
            preprocessing.to_network(picture),
            preprocessing.pose_landmarks(tracked),
            code_space.pose_code(frame.pose_6),
            exact.reshape(-1).astype(np.float32),
        )

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        encoder = cast(FacePoseEncoder, cast(Gcavt, model).pose_encoder)
        code, features = encoder.read(batch["image"], batch["landmarks"])
        off = self.projected(code) - self.projected(batch["code"])
        motion = off[0::2] - off[1::2]
        shown = F.smooth_l1_loss(off, torch.zeros_like(off)) + F.smooth_l1_loss(
            motion, torch.zeros_like(motion)
        )
        gap = (code - batch["code"])[:, :6]
        known = torch.isfinite(batch["exact"])
        guessed = self.landmarks(features)
        located = F.smooth_l1_loss(guessed[known], batch["exact"][known], beta=0.1)
        total = shown + CODE_WEIGHT * gap.square().mean() + LANDMARK_WEIGHT * 10 * located
        return total, {"px": float(off.detach().abs().mean()), "landmarks": float(located.detach())}

    def projected(self, code: Tensor) -> Tensor:
        """(B, P, 2): pixels of 256 at which an average head's points lie in a pose code (B, 12)."""
        six = code[:, :6] * torch.from_numpy(code_space.POSE_SCALE)
        camera = EditReposeGeneratorConfig()
        turned = self.points @ rotation_matrix(six[:, :3]).transpose(1, 2)
        at = turned + six[:, None, 3:] + torch.tensor(camera.pivot)
        depth = (camera.camera_distance - at[..., 2:]).clamp_min(3.0)
        flat = torch.stack([at[..., 0], camera.camera_height - at[..., 1]], 2)
        return 256 * camera.focal_ratio * flat / depth

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Of people held out, seen plainly: mean absolute errors, and the error's spread within a person."""
        encoder = cast(Gcavt, model).pose_encoder
        errors, within, shown = [], [], []
        for rows in self.pairs.held_out:
            batch = _batch([self._sample(self.pairs.faces.frame(row), None) for row in rows])
            code = encoder(batch["image"], batch["landmarks"])
            off = self.projected(code) - self.projected(batch["code"])
            shown.append((off - off.mean(0)).square().sum(2).mean().sqrt())
            error = code_space.pose_from_code(code.numpy()) - code_space.pose_from_code(batch["code"].numpy())
            errors.append(np.abs(error).mean(0))
            within.append((error - error.mean(0)).std(0))
        figures = {"px_within": float(torch.stack(shown).mean())}
        for name, values in (("", np.mean(errors, 0)), ("_within", np.mean(within, 0))):
            keys = ("pitch", "yaw", "roll", "x", "y", "z")
            figures |= {f"{key}{name}": float(value) for key, value in zip(keys, values, strict=True)}
        return figures


def head_points() -> Tensor:
    """(P, 3) skin of an average head above the chin, about the pivot, in head units."""
    pack = load_head_pack()
    at = pack.vertices_V3 - np.array(EditReposeGeneratorConfig.pivot, np.float32)
    is_head = (pack.vertex_material_V == Material.SKIN) & (at[:, 1] > -0.6)
    head = at[is_head]
    return torch.from_numpy(head[:: max(1, len(head) // _HEAD_POINTS)].astype(np.float32))


def _batch(samples: list[tuple[NDArray[np.float32], ...]]) -> Batch:
    names = ("image", "landmarks", "code", "exact")
    return {
        name: torch.from_numpy(np.stack(values))
        for name, values in zip(names, zip(*samples, strict=True), strict=True)
    }
