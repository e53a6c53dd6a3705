"""E_p: how the head is held. A MobileNetV2 over the head with its facial organs masked out.

Where the config says so, the tracked landmarks correct it. The masked image alone places strangers' heads to
2 degrees and a twentieth of a head, the landmarks to a third of that (`training/LOG.md`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gcavt.backbones.code_scale import to_unit_rms
from gcavt.backbones.mobilenet import MobileNetV2
from gcavt.config import LANDMARK_NUMBERS, GcavtConfig


class PoseEncoder(nn.Module):
    def __init__(self, config: GcavtConfig) -> None:
        super().__init__()
        self.backbone = MobileNetV2(
            output_dim=config.pose_dim,
            dropout=config.pose.dropout,
            input_px=config.pose.input_px,
            pooling=config.pose.pooling,
        )
        self.is_normalised = config.pose.normalise
        self.correction: nn.Sequential | None = None
        if config.pose.reads_landmarks:
            last = nn.Linear(128, config.pose_dim)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.correction = nn.Sequential(
                nn.Linear(config.pose_dim + LANDMARK_NUMBERS, 256),
                nn.SiLU(),
                nn.Linear(256, 128),
                nn.SiLU(),
                last,
            )

    def forward(self, pose_image: Tensor, pose_landmarks: Tensor | None = None) -> Tensor:
        """Pose images (B, 3, P, P), RGB in [0, 1], to pose codes (B, pose_dim).

        pose_landmarks (B, 136) as `gcavt.preprocessing.pose_landmarks` makes them, where the config asks for
        them. Raises ValueError where they are missing.
        """
        pose_code: Tensor = self.backbone(pose_image)
        if self.correction is not None:
            if pose_landmarks is None:
                raise ValueError("this pose encoder needs pose_landmarks (B, 136)")
            pose_code = pose_code + self.correction(torch.cat([pose_code, pose_landmarks], 1))
        return to_unit_rms(pose_code) if self.is_normalised else pose_code
