"""E_c: what the mouth says, seen. A ResNetSE34 over the mouth crop of one frame."""

from torch import Tensor, nn

from gcavt.backbones.code_scale import to_unit_rms
from gcavt.backbones.resnet_se import ResNetSE34
from gcavt.config import GcavtConfig


class ContentEncoder(nn.Module):
    def __init__(self, config: GcavtConfig) -> None:
        super().__init__()
        self.backbone = ResNetSE34(
            input_channels=3,
            input_rows=config.mouth_px,
            output_dim=config.content_dim,
            widths=config.content.widths,
            stem=config.content.stem,
            pooling=config.content.pooling,
        )
        self.is_normalised = config.content.normalise

    def forward(self, mouth_image: Tensor) -> Tensor:
        """Mouth crops (B, 3, mouth_px, mouth_px), RGB in [0, 1], to content codes (B, content_dim)."""
        content_code: Tensor = self.backbone(mouth_image)
        return to_unit_rms(content_code) if self.is_normalised else content_code
