"""E_c: what the mouth says, seen. A ResNetSE34 over the mouth crop of one frame."""

from gcavt.backbones.landmark_correction import CorrectedEncoder
from gcavt.backbones.resnet_se import ResNetSE34
from gcavt.config import GcavtConfig


class ContentEncoder(CorrectedEncoder):
    """Images as `gcavt.preprocessing.mouth_crop` makes them, landmarks as `face_landmarks`."""

    def __init__(self, config: GcavtConfig) -> None:
        super().__init__(
            ResNetSE34(
                input_channels=3,
                input_rows=config.mouth_px,
                output_dim=config.content_dim,
                widths=config.content.widths,
                stem=config.content.stem,
                pooling=config.content.pooling,
            ),
            code_dim=config.content_dim,
            is_normalised=config.content.normalise,
            reads_landmarks=config.content.reads_landmarks,
        )
