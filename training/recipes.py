"""Named training runs: functions returning a complete TrainConfig; a variant changes two fields."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Objective = Literal["editor", "reposer", "joint", "pose", "expression", "content", "audio"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run of the trainer: what is learned, from what, for how long."""

    name: str
    model: str = "lite"
    """Name of the GcavtConfig: its classmethod."""
    objective: Objective = "joint"
    steps: int = 10_000
    """Optimiser steps in all; a resumed run counts on."""
    batch_size: int = 8
    """Samples per step and process."""
    learning_rate: float = 8e-4
    warmup_steps: int = 100
    hold_share: float = 0.3
    """Share of the steps at full learning rate, before the cosine."""
    final_rate_share: float = 0.03
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 5.0
    ema_decay: float = 0.995
    seed: int = 0
    code_noise: float = 0.3
    """Standard deviation of the noise on expression and content codes, whose length is 16."""
    pose_noise: float = 0.0
    """Noise on both poses in units of POSE_SCALE."""
    single_reference_share: float = 0.35
    """How often the second reference is withheld, so that one photo still works."""
    real_share: float = 0.4
    """Share of pseudo-labelled real frames in an image encoder's batches, where they are given."""
    feature_weight: float = 0.0
    """Of the perceptual loss through our own mouth and expression encoders, in the joint stage."""
    structure_weight: float = 0.0
    """Of 1 - SSIM, in the joint stage."""
    mouth_weight: float = 6.0
    eye_weight: float = 4.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps and batch_size must be at least 1, got {self.steps}, {self.batch_size}")
        if not 0 <= self.hold_share <= 1:
            raise ValueError(f"hold_share must be 0 to 1, got {self.hold_share}")


def editor() -> TrainConfig:
    """The editor alone, in the reference's frame: expression and mouth."""
    return TrainConfig(name="editor", objective="editor", steps=3600, batch_size=10, learning_rate=1e-3)


def reposer() -> TrainConfig:
    """The re-poser alone, fed with exact edits."""
    return TrainConfig(
        name="reposer", objective="reposer", steps=3000, batch_size=8, mouth_weight=8.0, eye_weight=5.0
    )


def joint() -> TrainConfig:
    """Editor and re-poser together, the editor's output feeding the re-poser."""
    return replace(
        reposer(),
        name="joint",
        objective="joint",
        steps=2400,
        batch_size=6,
        learning_rate=5e-4,
        hold_share=0.1,
        pose_noise=0.05,
        feature_weight=0.15,
        structure_weight=1.0,
        mouth_weight=12.0,
        eye_weight=8.0,
    )


def pose_encoder() -> TrainConfig:
    """Pose encoder, regressed to exact pose codes from masked, augmented frames."""
    return TrainConfig(
        name="pose_encoder",
        objective="pose",
        steps=2500,
        batch_size=32,
        learning_rate=1.5e-3,
        weight_decay=1e-2,
        hold_share=0.2,
    )


def expression_encoder() -> TrainConfig:
    return replace(pose_encoder(), name="expression_encoder", objective="expression", steps=3000)


def content_encoder() -> TrainConfig:
    return replace(pose_encoder(), name="content_encoder", objective="content", steps=3000)


def audio_encoder() -> TrainConfig:
    return replace(pose_encoder(), name="audio_encoder", objective="audio", steps=4000, batch_size=128)


RECIPES = {
    recipe.__name__: recipe
    for recipe in (editor, reposer, joint, pose_encoder, expression_encoder, content_encoder, audio_encoder)
}
