"""E_p: how the head is held. A MobileNetV2 over the head with its facial organs masked out.

Tracked landmarks may correct it: the masked image alone reads how strangers turn their heads to 2 degrees,
with landmarks to half of that (`training/LOG.md`). `lite` sees the whole face: `gcavt.face_pose_encoder`.
"""

from gcavt.backbones.landmark_correction import CorrectedEncoder
from gcavt.backbones.mobilenet import MobileNetV2
from gcavt.config import GcavtConfig, MobileNetEncoderConfig


class PoseEncoder(CorrectedEncoder):
    """Images as `gcavt.preprocessing.pose_input` makes them, landmarks as `pose_landmarks`."""

    def __init__(self, config: GcavtConfig) -> None:
        pose = config.pose
        if not isinstance(pose, MobileNetEncoderConfig):
            raise ValueError("the pose encoder of this model sees the face")
        super().__init__(
            MobileNetV2(
                output_dim=config.pose_dim,
                dropout=pose.dropout,
                input_px=pose.input_px,
                pooling=pose.pooling,
            ),
            code_dim=config.pose_dim,
            is_normalised=pose.normalise,
            reads_landmarks=pose.reads_landmarks,
        )
