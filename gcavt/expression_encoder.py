"""E_e: the emotion. A MobileNetV2 (paper) or a ResNetSE34 (lite) over the face with a time-shifted mouth."""

from torch import nn

from gcavt.backbones.landmark_correction import CorrectedEncoder
from gcavt.backbones.mobilenet import MobileNetV2
from gcavt.backbones.resnet_se import ResNetSE34
from gcavt.config import FaceEncoderConfig, GcavtConfig


class ExpressionEncoder(CorrectedEncoder):
    """Images as `gcavt.preprocessing.expression_input` makes them, landmarks as `face_landmarks`."""

    def __init__(self, config: GcavtConfig) -> None:
        super().__init__(
            _backbone(config),
            code_dim=config.expression_dim,
            is_normalised=config.expression.normalise,
            reads_landmarks=config.expression.reads_landmarks,
        )


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
