"""E_p: how the head is held. A MobileNetV2 over the head with its facial organs masked out."""

from torch import Tensor, nn

from gcavt.backbones.code_scale import to_unit_rms
from gcavt.backbones.mobilenet import MobileNetV2
from gcavt.config import GcavtConfig


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

    def forward(self, pose_image: Tensor) -> Tensor:
        """Pose images (B, 3, P, P), RGB in [0, 1], to pose codes (B, pose_dim)."""
        pose_code: Tensor = self.backbone(pose_image)
        return to_unit_rms(pose_code) if self.is_normalised else pose_code
