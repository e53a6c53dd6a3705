"""E_e: the emotion. A MobileNetV2 (paper) or a ResNetSE34 (lite) over the face with a time-shifted mouth."""

from torch import Tensor, nn

from gcavt.backbones.landmark_correction import CorrectedEncoder, lookup_of
from gcavt.backbones.landmark_lookup import in_window, level_landmarks
from gcavt.backbones.mobilenet import MobileNetV2
from gcavt.backbones.resnet_se import ResNetSE34
from gcavt.config import FaceEncoderConfig, GcavtConfig


class ExpressionEncoder(CorrectedEncoder):
    """Images as `gcavt.preprocessing.expression_input` makes them; landmarks as `face_landmarks`, or as
    `pose_landmarks` where features are looked up about them."""

    def __init__(self, config: GcavtConfig) -> None:
        expression = config.expression
        super().__init__(
            _backbone(config),
            code_dim=config.expression_dim,
            is_normalised=expression.normalise,
            reads_landmarks=expression.reads_landmarks,
            local=lookup_of(expression) if isinstance(expression, FaceEncoderConfig) else None,
        )
        self.zoom = expression.face_zoom

    def points_in_image(self, landmarks: Tensor) -> Tensor:
        return in_window(landmarks).points(self.zoom)

    def level(self, landmarks: Tensor) -> Tensor:
        return landmarks if self.local is None else level_landmarks(landmarks)


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
