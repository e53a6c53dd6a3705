"""Gcavt: the parts joined, named as checkpoints, exports and the engine name them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gcavt.audio_encoder import AudioEncoder
from gcavt.config import AdainGeneratorConfig, FacePoseEncoderConfig, GcavtConfig
from gcavt.content_encoder import ContentEncoder
from gcavt.expression_encoder import ExpressionEncoder
from gcavt.face_pose_encoder import FacePoseEncoder
from gcavt.generator import AdainGenerator
from gcavt.identity_encoder import IdentityEncoder
from gcavt.pose_encoder import PoseEncoder


class DrivingSources(NamedTuple):
    """What one forward pass reads. B batch, K portraits; images are RGB in [0, 1]."""

    portrait_images: Tensor
    """(B, K, 3, S, S)"""
    pose_image: Tensor
    """(B, 3, P, P)"""
    expression_image: Tensor
    """(B, 3, E, E)"""
    mouth_image: Tensor
    """(B, 3, mouth_px, mouth_px)"""
    mel_window: Tensor
    """(B, 1, mel_bands, mel_frames)"""
    pose_landmarks: Tensor | None = None
    """(B, 136), where the pose encoder reads landmarks, or the expression encoder looks things up there."""
    face_landmarks: Tensor | None = None
    """(B, 136), where the expression and the content encoder do."""


class Reconstruction(NamedTuple):
    """The frame rebuilt twice, with the mouth seen and with the mouth heard, and the codes behind it."""

    visual_image: Tensor
    visual_mask: Tensor
    audio_image: Tensor
    audio_mask: Tensor
    identity_code: Tensor
    pose_code: Tensor
    expression_code: Tensor
    visual_content_code: Tensor
    audio_content_code: Tensor


class Gcavt(nn.Module):
    """Five encoders and a generator, and what mends the landmarks that some of them read."""

    def __init__(self, config: GcavtConfig) -> None:
        super().__init__()
        self.config = config
        self.identity_encoder = IdentityEncoder(config)
        self.pose_encoder = (
            FacePoseEncoder(config) if isinstance(config.pose, FacePoseEncoderConfig) else PoseEncoder(config)
        )
        self.expression_encoder = ExpressionEncoder(config)
        self.content_encoder = ContentEncoder(config)
        self.audio_encoder = AudioEncoder(config)
        self.generator = build_generator(config)

    def forward(self, sources: DrivingSources, reference: Sequence[Tensor] = ()) -> Reconstruction:
        """Rebuild each sample from the seen and from the heard mouth; all other codes are shared.

        `reference` holds what the generator takes beyond the four codes, in its order (nothing for
        `adain`). Both passes run as one batch of 2 B: instance norms never look across samples.
        """
        identity = self.identity_encoder.average(sources.portrait_images)
        pose: Tensor = self.pose_encoder(sources.pose_image, sources.pose_landmarks)
        expression: Tensor = self.expression_encoder(
            sources.expression_image, getattr(sources, self.config.expression_landmarks)
        )
        visual: Tensor = self.content_encoder(sources.mouth_image, sources.face_landmarks)
        audio: Tensor = self.audio_encoder(sources.mel_window)
        shared = (torch.cat([code, code]) for code in (identity, pose, expression))
        content = torch.cat([visual, audio])
        image, mask = self.generator(*shared, content, *(torch.cat([t, t]) for t in reference))
        visual_image, audio_image = image.chunk(2)
        visual_mask, audio_mask = mask.chunk(2)
        return Reconstruction(
            visual_image, visual_mask, audio_image, audio_mask, identity, pose, expression, visual, audio
        )

    def sync_codes(self, mouth_images_BTCHW: Tensor, mel_windows_BTCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Seen and heard content of T consecutive frames, each assembled into one vector (B, T * D)."""
        visual: Tensor = self.content_encoder(mouth_images_BTCHW.flatten(0, 1))
        audio: Tensor = self.audio_encoder(mel_windows_BTCHW.flatten(0, 1))
        batch = mouth_images_BTCHW.shape[0]
        return visual.reshape(batch, -1), audio.reshape(batch, -1)


def build_generator(config: GcavtConfig) -> nn.Module:
    """The generator member that `config.generator` asks for."""
    if isinstance(config.generator, AdainGeneratorConfig):
        return AdainGenerator(config)
    from gcavt.edit_repose import EditReposeGenerator

    return EditReposeGenerator(config)
