"""E_c: what the mouth says, seen. A ResNetSE34 over the mouth crop of one frame."""

from torch import Tensor

from gcavt.backbones.landmark_correction import CorrectedEncoder, lookup_of
from gcavt.backbones.landmark_lookup import points_in_mouth_crop
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
            local=lookup_of(config.content),
        )

    def points_in_image(self, landmarks: Tensor) -> Tensor:
        return points_in_mouth_crop(landmarks)
