"""Named training runs: functions returning a complete TrainConfig; a variant changes two fields."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Objective = Literal[
    "editor",
    "reposer",
    "surface",
    "joint",
    "counterfactual",
    "self_driven",
    "gan",
    "editor_gan",
    "reposer_gan",
    "distil",
    "sync",
    "pose",
    "expression",
    "content",
    "audio",
]


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
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the convolutions' products (see `training.precision`); auto: bf16 where the processor has it."""
    code_noise: float = 0.3
    """Standard deviation of the noise on expression and content codes, whose length is 16."""
    pose_noise: float = 0.0
    """Noise on both poses in units of POSE_SCALE."""
    single_reference_share: float = 0.35
    """How often all references but the first are withheld, so that one photo still works."""
    real_share: float = 0.4
    """Share of pseudo-labelled real frames in an image encoder's batches, where they are given."""
    feature_weight: float = 0.0
    """Of the perceptual loss through our own mouth and expression encoders, in the joint stage."""
    structure_weight: float = 0.0
    """Of 1 - SSIM, in the stages whose picture is the re-poser's."""
    encoder_code_share: float = 0.0
    """How often the counterfactual stage reads all three codes from other people's frames."""
    driver_people: int = 24
    """How many of the training people act as those others; each keeps a renderer in memory."""
    code_anchor_weight: float = 1.0
    """Of the distance between codes read and exact codes, which holds the encoders in the code space."""
    gan_weight: float = 0.0
    """Of the discriminators, as a share of the pull that the other losses have on the picture they see."""
    contrast_weight: float = 0.0
    """Of detail that is too weak or too strong, in the gan stages."""
    feature_matching_weight: float = 2.0
    """Of the discriminators' features, relative to the adversarial loss."""
    own_edit_share: float = 0.0
    """How often the re-poser alone is fed with what the editor of --init makes, else with exact edits."""
    hold_reposer: bool = False
    """In the self-driven stage: keep re-poser and identity as --init brings them."""
    sync_mode: Literal["symmetric", "audio_only"] = "symmetric"
    """Whether the sync stage trains both encoders, or only the audio encoder towards the content encoder."""
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


def surface() -> TrainConfig:
    """The portraits' depth, normals and light, from --init REPOSER; minutes, and the joint stage needs it."""
    return replace(
        reposer(),
        name="surface",
        objective="surface",
        steps=1200,
        batch_size=16,
        learning_rate=2e-3,
        hold_share=0.0,
        pose_noise=0.0,
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


def counterfactual() -> TrainConfig:
    """The joint stage with other people's frames as drivers: image encoders and generator tuned together."""
    return replace(
        joint(),
        name="counterfactual",
        objective="counterfactual",
        steps=1200,
        learning_rate=2e-4,
        encoder_code_share=0.5,
    )


def self_driven() -> TrainConfig:
    """The paper's reconstruction, for comparison: codes and target come from one and the same frame.

    Its pose encoder must not see the face, which would go by that way too.
    """
    return replace(
        joint(),
        name="self_driven",
        model="lite_masked",
        objective="self_driven",
        learning_rate=8e-4,
        code_noise=0.0,
        pose_noise=0.0,
        feature_weight=0.0,
    )


def self_driven_face() -> TrainConfig:
    """The same over a re-poser that is good already, from --init: encoders and editor alone learn.

    Left free, it first learned to blur the whole picture, for the encoders could not yet tell the pose.
    """
    return replace(self_driven(), name="self_driven_face", learning_rate=1e-3, hold_reposer=True)


def gan() -> TrainConfig:
    """The joint stage under two weak patch discriminators, and with detail of the right strength.

    It made `lite` worse where its halves apart made it better, but on two processes whose gradients were
    scrambled (see LOG.md, tenth session): not known yet.
    """
    return _sharpened(replace(joint(), name="gan", objective="gan", steps=1500))


def editor_gan() -> TrainConfig:
    """Last: the editor's share of that, at a fifth of the time for a step; mouth and eyes are its work."""
    return _sharpened(replace(editor(), name="editor_gan", objective="editor_gan", steps=3000))


def reposer_gan() -> TrainConfig:
    """The re-poser's, on exact edits; beside it on another core."""
    return _sharpened(
        replace(joint(), name="reposer_gan", objective="reposer_gan", steps=1500, feature_weight=0.0)
    )


def reposer_behind_editor() -> TrainConfig:
    """The same, mostly on what a finished editor makes: the re-poser is to know its faults."""
    return replace(reposer_gan(), name="reposer_behind_editor", own_edit_share=0.7)


def reposer_again() -> TrainConfig:
    """The same without discriminators, which are sure of themselves before anything new is learnt."""
    return replace(reposer_behind_editor(), name="reposer_again", gan_weight=0.0, steps=340, warmup_steps=30)


def _sharpened(config: TrainConfig) -> TrainConfig:
    return replace(config, learning_rate=3e-4, hold_share=0.4, gan_weight=0.3, contrast_weight=1.0)


def distil() -> TrainConfig:
    """A teacher's pictures of any mixture of drivers, learnt by a smaller model."""
    return replace(joint(), name="distil", objective="distil", feature_weight=0.0, mouth_weight=1.0)


def sync() -> TrainConfig:
    """The paper's first stage: content and audio encoder agree on what is said at one moment."""
    return TrainConfig(
        name="sync",
        objective="sync",
        steps=3000,
        batch_size=12,
        learning_rate=5e-4,
        weight_decay=1e-2,
    )


def pose_encoder() -> TrainConfig:
    """Pose encoder, regressed to exact codes: from many people's faces, or (`paper`) from masked heads."""
    return TrainConfig(
        name="pose_encoder",
        objective="pose",
        steps=2500,
        batch_size=32,
        learning_rate=1.5e-3,
        weight_decay=1e-2,
        hold_share=0.2,
        real_share=0.25,
    )


def expression_encoder() -> TrainConfig:
    return replace(
        pose_encoder(), name="expression_encoder", objective="expression", steps=3000, real_share=0.4
    )


def content_encoder() -> TrainConfig:
    return replace(expression_encoder(), name="content_encoder", objective="content")


def audio_encoder() -> TrainConfig:
    return replace(pose_encoder(), name="audio_encoder", objective="audio", steps=4000, batch_size=128)


RECIPES = {
    recipe.__name__: recipe
    for recipe in (
        sync,
        pose_encoder,
        expression_encoder,
        content_encoder,
        audio_encoder,
        editor,
        reposer,
        surface,
        joint,
        counterfactual,
        self_driven,
        self_driven_face,
        gan,
        editor_gan,
        reposer_gan,
        reposer_behind_editor,
        reposer_again,
        distil,
    )
}
