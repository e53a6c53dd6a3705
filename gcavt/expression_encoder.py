"""E_e: the emotion. A MobileNetV2 (paper) or a ResNetSE34 (lite) over the face with a time-shifted mouth."""

from torch import Tensor, nn

from gcavt.backbones.code_scale import to_unit_rms
from gcavt.backbones.mobilenet import MobileNetV2
from gcavt.backbones.resnet_se import ResNetSE34
from gcavt.config import FaceEncoderConfig, GcavtConfig


class ExpressionEncoder(nn.Module):
    def __init__(self, config: GcavtConfig) -> None:
        super().__init__()
        self.backbone = _backbone(config)
        self.is_normalised = config.expression.normalise

    def forward(self, expression_image: Tensor) -> Tensor:
        """Expression images (B, 3, E, E), RGB in [0, 1], to expression codes (B, expression_dim)."""
        expression_code: Tensor = self.backbone(expression_image)
        return to_unit_rms(expression_code) if self.is_normalised else expression_code


def _backbone(config: GcavtConfig) -> nn.Module:
    expression = config.expression
    if not isinstance(expression, FaceEncoderConfig):
        return MobileNetV2(
            output_dim=config.expression_dim,
            dropout=expression.dropout,
            input_px=expression.input_px,
            pooling=expression.pooling,
        )
    return ResNetSE34(
        input_channels=3,
        input_rows=expression.input_px,
        output_dim=config.expression_dim,
        widths=expression.widths,
        stem=expression.stem,
        pooling=expression.pooling,
    )
