"""Every size of the model in frozen dataclasses: `GcavtConfig.paper()`, `.lite()` and `.tiny()` (tests)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class IdentityEncoderConfig:
    """ResNeXt: the paper's is ResNeXt-50 32x4d."""

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    """Bottleneck blocks per stage."""
    cardinality: int = 32
    """Groups of the 3x3 convolutions."""
    base_width: int = 4
    """Channels per group in the first stage."""
    stem_channels: int = 64
    """Channels after the 7x7 stem; stage i puts out 4 * stem_channels * 2**i."""
    input_px: int = 256


LANDMARK_NUMBERS = 136
"""x and y of the 68 landmarks."""


@dataclass(frozen=True, kw_only=True)
class MobileNetEncoderConfig:
    """MobileNetV2 of width 1.0 with a linear head, for pose and for expression."""

    input_px: int = 256
    dropout: float = 0.2
    pooling: Literal["average", "spatial"] = "average"
    """`spatial` keeps every position: for inputs in which the head always lies at about the same place."""
    normalise: bool = False
    """L2-normalise the code and multiply it by the square root of its length."""
    face_zoom: float = 1.0
    """How much tighter than the face crop the expression input is cut; above 1 with the eye line level."""
    reads_landmarks: bool = False
    """Correct what the image says by the face's 68 tracked landmarks."""


@dataclass(frozen=True, kw_only=True)
class ResNetSEEncoderConfig:
    """ResNetSE34, for speech content from the mouth (3 channels) or from sound (1 channel)."""

    widths: tuple[int, int, int, int] = (32, 64, 128, 256)
    stem: Literal["conv3x3", "conv7x7_stride2"] = "conv3x3"
    pooling: Literal["attention", "average", "spatial"] = "average"
    """`attention` pools over the time axis (SAP), `average` over both, `spatial` keeps every position."""
    normalise: bool = True
    """L2-normalise the code and multiply it by 16, so that both content encoders drive one generator."""
    reads_landmarks: bool = False
    """Correct what the image says by the face's 68 tracked landmarks."""
    looked_up: int = 0
    """Features from what its first stage finds about those landmarks (`gcavt.backbones.landmark_lookup`)."""


@dataclass(frozen=True, kw_only=True)
class FaceEncoderConfig(ResNetSEEncoderConfig):
    """The content encoder's backbone, for expression: it learns from scratch where MobileNetV2 does not."""

    input_px: int = 128
    face_zoom: float = 1.8


@dataclass(frozen=True, kw_only=True)
class FacePoseEncoderConfig(ResNetSEEncoderConfig):
    """A pose encoder that sees the whole face and its surroundings (`gcavt.face_pose_encoder`)."""

    input_px: int = 128

    widths: tuple[int, int, int, int] = (16, 32, 64, 128)
    stem: Literal["conv3x3", "conv7x7_stride2"] = "conv7x7_stride2"
    pooling: Literal["attention", "average", "spatial"] = "spatial"
    normalise: bool = False
    reads_landmarks: bool = True
    face_zoom: float = 1.5
    features: int = 128


@dataclass(frozen=True, kw_only=True)
class AdainGeneratorConfig:
    """The paper's generator (latent-pose-reenactment): learned constant, AdaIN residual blocks."""

    kind: Literal["adain"] = "adain"
    base_channels: int = 64
    max_channels: int = 512
    constant_px: int = 4
    constant_blocks: int = 2
    """Residual blocks before the first upsampling."""


@dataclass(frozen=True, kw_only=True)
class EditReposeGeneratorConfig:
    """Edit the face in the reference's own frame, then re-pose it by predicted geometry."""

    kind: Literal["edit_repose"] = "edit_repose"
    editor_channels: tuple[int, int, int, int] = (16, 32, 56, 80)
    """Editor feature channels at 1/1, 1/2, 1/4 and 1/8 of the crop."""
    crop_height_px: int = 176
    crop_width_px: int = 144
    crop_eye_offset_px: tuple[int, int] = (72, 44)
    """Where (x, y) the midpoint between the outer eye corners lies in the crop."""
    reference_channels: tuple[int, int, int] = (24, 48, 96)
    """Reference maps at 1/4, 1/8 and 1/16 of the portrait."""
    depth_channels: tuple[int, int, int] = (64, 48, 24)
    """Of the portrait's depth network at 1/16, 1/8 and 1/4."""
    reposer_channels: tuple[int, int, int, int, int] = (128, 112, 80, 40, 16)
    """Re-poser feature channels at 8, 16, 32, 64 and 128 px."""
    focal_ratio: float = 3.15
    """Focal length over image side of the camera that the pose code speaks of: with this and the height below
    a frontal head at translation 0 fills the frame as the face crop (box x 1.8) cuts it."""
    camera_distance: float = 11.0
    camera_height: float = 6.99
    """Height of the optical axis, in head units (1 unit = 1 dm of a life-size head)."""
    pivot: tuple[float, float, float] = (0.0, 6.75, 0.25)
    """Point about which the head turns."""


GeneratorConfig = AdainGeneratorConfig | EditReposeGeneratorConfig


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    scales: int = 2
    layers: int = 4
    base_channels: int = 64
    max_channels: int = 512


@dataclass(frozen=True, kw_only=True)
class GcavtConfig:
    """All sizes of one GC-AVT model. Shapes of the four codes: identity, pose, expression, content."""

    name: str = "paper"
    image_px: int = 256
    identity_dim: int = 512
    pose_dim: int = 12
    expression_dim: int = 256
    content_dim: int = 256
    mouth_px: int = 96
    mel_bands: int = 80
    mel_frames: int = 20
    identity: IdentityEncoderConfig = field(default_factory=IdentityEncoderConfig)
    pose: MobileNetEncoderConfig | FacePoseEncoderConfig = field(default_factory=MobileNetEncoderConfig)
    expression: MobileNetEncoderConfig | FaceEncoderConfig = field(default_factory=MobileNetEncoderConfig)
    content: ResNetSEEncoderConfig = field(default_factory=ResNetSEEncoderConfig)
    audio: ResNetSEEncoderConfig = field(default_factory=lambda: ResNetSEEncoderConfig(pooling="attention"))
    generator: GeneratorConfig = field(default_factory=AdainGeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)

    def __post_init__(self) -> None:
        if self.image_px < 16 or self.image_px & (self.image_px - 1):
            raise ValueError(f"image_px must be a power of two of at least 16, got {self.image_px}")
        for key in ("identity_dim", "pose_dim", "expression_dim", "content_dim"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be positive, got {getattr(self, key)}")

    @property
    def expression_landmarks(self) -> Literal["pose_landmarks", "face_landmarks"]:
        """How the expression encoder is told of landmarks: by the function of that name."""
        is_looked_up = isinstance(self.expression, FaceEncoderConfig) and self.expression.looked_up > 0
        return "pose_landmarks" if is_looked_up else "face_landmarks"

    @property
    def code_dim(self) -> int:
        """Width of the joined code (identity, pose, expression, content): 1036 in the paper."""
        return self.identity_dim + self.pose_dim + self.expression_dim + self.content_dim

    @classmethod
    def paper(cls) -> GcavtConfig:
        """The model of the paper: 82.5 M parameters without the discriminator."""
        return cls()

    @classmethod
    def lite(cls) -> GcavtConfig:
        """The same design for a two-core CPU, with the `edit_repose` generator."""
        return cls(
            name="lite",
            identity=IdentityEncoderConfig(
                blocks=(1, 1, 2, 1), cardinality=8, base_width=4, stem_channels=32, input_px=128
            ),
            pose=FacePoseEncoderConfig(),
            expression=FaceEncoderConfig(
                widths=(16, 32, 64, 128),
                stem="conv7x7_stride2",
                pooling="spatial",
                reads_landmarks=True,
                looked_up=128,
            ),
            content=ResNetSEEncoderConfig(
                widths=(16, 32, 64, 128),
                stem="conv7x7_stride2",
                pooling="spatial",
                reads_landmarks=True,
                looked_up=128,
            ),
            audio=ResNetSEEncoderConfig(widths=(16, 32, 64, 128), pooling="attention"),
            generator=EditReposeGeneratorConfig(),
        )

    @classmethod
    def lite_masked(cls) -> GcavtConfig:
        """`lite` with the paper's view of the head, face masked: for training without exact poses."""
        pose = MobileNetEncoderConfig(input_px=128, dropout=0.0, pooling="spatial", reads_landmarks=True)
        return dataclasses.replace(cls.lite(), name="lite_masked", pose=pose)

    @classmethod
    def lite_adain(cls) -> GcavtConfig:
        """`lite` with the paper's generator at 32/256 channels."""
        return dataclasses.replace(
            cls.lite(), name="lite_adain", generator=AdainGeneratorConfig(base_channels=32, max_channels=256)
        )

    @classmethod
    def tiny(cls) -> GcavtConfig:
        """Shapes and code paths of `paper` at test speed, still 256 px; nearly all of it is MobileNetV2."""
        return cls(
            name="tiny",
            identity=IdentityEncoderConfig(
                blocks=(1, 1, 1, 1), cardinality=2, base_width=4, stem_channels=8, input_px=64
            ),
            pose=MobileNetEncoderConfig(input_px=64),
            expression=MobileNetEncoderConfig(input_px=64),
            content=ResNetSEEncoderConfig(widths=(4, 8, 8, 16), stem="conv7x7_stride2"),
            audio=ResNetSEEncoderConfig(widths=(4, 8, 8, 16), pooling="attention"),
            generator=AdainGeneratorConfig(base_channels=2, max_channels=8),
            discriminator=DiscriminatorConfig(base_channels=4, max_channels=16),
        )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; `from_dict` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GcavtConfig:
        """Rebuild a config from `to_dict`. Raises ValueError naming an unknown key or generator kind."""
        values = dict(values)
        kinds = {"adain": AdainGeneratorConfig, "edit_repose": EditReposeGeneratorConfig}
        kind = values.get("generator", {}).get("kind")
        if kind not in kinds:
            raise ValueError(f"generator.kind must be one of {sorted(kinds)}, got {kind!r}")
        parts = {
            "identity": IdentityEncoderConfig,
            "pose": FacePoseEncoderConfig if "widths" in values.get("pose", {}) else MobileNetEncoderConfig,
            "expression": FaceEncoderConfig
            if "widths" in values.get("expression", {})
            else MobileNetEncoderConfig,
            "content": ResNetSEEncoderConfig,
            "audio": ResNetSEEncoderConfig,
            "generator": kinds[kind],
            "discriminator": DiscriminatorConfig,
        }
        missing = sorted(set(parts) - set(values))
        if missing:
            raise ValueError(f"missing key in model config: {', '.join(missing)}")
        for key, part in parts.items():
            values[key] = _from_dict(part, values[key], key)
        config: GcavtConfig = _from_dict(cls, values, "model")
        return config


def _from_dict(part: type[Any], values: dict[str, Any], where: str) -> Any:
    known = {f.name for f in dataclasses.fields(part)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"unknown key in {where} config: {', '.join(unknown)}")
    return part(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
