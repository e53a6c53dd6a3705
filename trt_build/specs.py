"""Tensor names and shapes of every exported network: read by export, verify and all run-time backends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from gcavt.config import LANDMARK_NUMBERS, EditReposeGeneratorConfig, GcavtConfig
from gcavt.edit_repose_shapes import reference_state_shapes

BATCH: Final = "batch"
"""The one dynamic axis; every other dimension is fixed by the config."""

"""The network that comes before the image encoders, in models that have it."""
ONCE_PER_IDENTITY: Final = frozenset({"identity_encoder", "reference_encoder"})
"""Networks that no picture waits for: their speed does not matter."""

Dimension = int | Literal["batch"]
Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class BatchRange:
    """How many frames a network takes at once: graphs, engines and backends all keep to it."""

    least: int = 1
    favoured: int = 1
    """What engines are tuned for: live pictures come one by one."""
    largest: int = 32


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One float32 tensor that enters or leaves a network."""

    name: str
    shape: tuple[Dimension, ...]

    def with_batch(self, batch: int) -> tuple[int, ...]:
        """The shape with `batch` in place of the dynamic axis."""
        return tuple(batch if dimension == BATCH else int(dimension) for dimension in self.shape)


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """One network: its inputs and outputs in the order of the module's arguments and results."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch: BatchRange = BatchRange()

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(tensor.name for tensor in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(tensor.name for tensor in self.outputs)

    def profile(self, tensor: TensorSpec) -> tuple[Shape, Shape, Shape]:
        """Least, favoured and largest shape of one of the tensors."""
        sizes = (self.batch.least, self.batch.favoured, self.batch.largest)
        least, favoured, largest = (tensor.with_batch(size) for size in sizes)
        return least, favoured, largest


def _tensors(**shapes: tuple[int, ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name=name, shape=(BATCH, *shape)) for name, shape in shapes.items())


def _landmarks(name: str, *, is_read: bool) -> dict[str, tuple[int, ...]]:
    return {name: (LANDMARK_NUMBERS,)} if is_read else {}


def _encoders(config: GcavtConfig) -> list[EngineSpec]:
    portrait_px, pose_px, expression_px = (
        config.identity.input_px,
        config.pose.input_px,
        config.expression.input_px,
    )
    content = _tensors(content_code=(config.content_dim,))
    return [
        EngineSpec(
            name="identity_encoder",
            inputs=_tensors(portrait_image=(3, portrait_px, portrait_px)),
            outputs=_tensors(identity_code=(config.identity_dim,)),
        ),
        EngineSpec(
            name="pose_encoder",
            inputs=_tensors(
                pose_image=(3, pose_px, pose_px),
                **_landmarks("pose_landmarks", is_read=config.pose.reads_landmarks),
            ),
            outputs=_tensors(pose_code=(config.pose_dim,)),
        ),
        EngineSpec(
            name="expression_encoder",
            inputs=_tensors(
                expression_image=(3, expression_px, expression_px),
                **_landmarks(config.expression_landmarks, is_read=config.expression.reads_landmarks),
            ),
            outputs=_tensors(expression_code=(config.expression_dim,)),
        ),
        EngineSpec(
            name="content_encoder",
            inputs=_tensors(
                mouth_image=(3, config.mouth_px, config.mouth_px),
                **_landmarks("face_landmarks", is_read=config.content.reads_landmarks),
            ),
            outputs=content,
        ),
        EngineSpec(
            name="audio_encoder",
            inputs=_tensors(mel_window=(1, config.mel_bands, config.mel_frames)),
            outputs=content,
        ),
    ]


def _reference_encoder(config: GcavtConfig) -> EngineSpec:
    side = config.image_px
    return EngineSpec(
        name="reference_encoder",
        inputs=_tensors(
            primary_image=(3, side, side),
            secondary_image=(3, side, side),
            crop_origin=(4,),
            side_images=(6, side, side),
        ),
        outputs=_tensors(**reference_state_shapes(config)),
    )


def _generator(config: GcavtConfig) -> EngineSpec:
    inputs = _tensors(
        identity_code=(config.identity_dim,),
        pose_code=(config.pose_dim,),
        expression_code=(config.expression_dim,),
        content_code=(config.content_dim,),
    )
    if isinstance(config.generator, EditReposeGeneratorConfig):
        inputs += _tensors(
            reference_pose=(6,), crop_origin=(4,), side_poses=(12,), **reference_state_shapes(config)
        )
    side = config.image_px
    return EngineSpec(
        name="generator", inputs=inputs, outputs=_tensors(image=(3, side, side), mask=(1, side, side))
    )


def engine_specs(config: GcavtConfig) -> dict[str, EngineSpec]:
    """Every network that a bundle of this config holds, by name.

    Images are RGB in [0, 1]. The generator's image is already multiplied by its mask (black background).
    """
    specs = _encoders(config)
    if isinstance(config.generator, EditReposeGeneratorConfig):
        specs.append(_reference_encoder(config))
    specs.append(_generator(config))
    return {spec.name: spec for spec in specs}
