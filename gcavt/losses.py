"""The losses of GC-AVT (equations 1, 2, 4 and 5) and those its public relatives add.

Every reconstruction loss applies to both streams, the seen mouth's image and the heard mouth's.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcavt.discriminator import ScaleOutput
from gcavt.feature_networks import FeatureNetwork

GanMode = Literal["hinge", "original"]
SyncMode = Literal["symmetric", "audio_only"]
Terms = dict[str, Tensor]

FACE_FRACTION = 1 / 1.8
"""The face box within a crop that was enlarged by 80 %."""
MIN_TEMPERATURE = 0.01


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weight of each named term. The paper gives none: these are PC-AVS's and LPD's."""

    adversarial: float = 1.0
    l1: float = 10.0
    """lambda 1."""
    perceptual: float = 10.0
    """lambda 2."""
    face_perceptual: float = 5.0
    feature_matching: float = 10.0
    sync: float = 1.0
    """lambda 3, for a temperature of 0.07."""
    dice: float = 1.0
    identity: float = 0.1
    embedding_match: float = 0.01
    visual_stream: float = 1.0
    audio_stream: float = 1.0

    def total(
        self, visual: Mapping[str, Tensor], audio: Mapping[str, Tensor], shared: Mapping[str, Tensor]
    ) -> Tensor:
        """Equation 5 over both streams' terms and those that belong to neither (sync, identity)."""
        streams = ((self.visual_stream, visual), (self.audio_stream, audio), (1.0, shared))
        return torch.stack(
            [scale * getattr(self, name) * value for scale, terms in streams for name, value in terms.items()]
        ).sum()


def discriminator_loss(
    real: Sequence[ScaleOutput], fake: Sequence[ScaleOutput], mode: GanMode = "hinge"
) -> Tensor:
    """What D minimises: mean over scales, real and fake halves added. `fake` may hold both streams."""
    if mode == "hinge":
        losses = [
            F.relu(1 - r.logits).mean() + F.relu(1 + f.logits).mean() for r, f in zip(real, fake, strict=True)
        ]
    else:  # softplus(-x) is -log D, softplus(x) is -log(1 - D) for D = sigmoid(x)
        losses = [
            F.softplus(-r.logits).mean() + F.softplus(f.logits).mean()
            for r, f in zip(real, fake, strict=True)
        ]
    return torch.stack(losses).mean()


def adversarial_loss(fake: Sequence[ScaleOutput], mode: GanMode = "hinge") -> Tensor:
    """What G minimises: -D, or for `original` the non-saturating -log D of Goodfellow et al. 2014."""
    losses = [-f.logits.mean() if mode == "hinge" else F.softplus(-f.logits).mean() for f in fake]
    return torch.stack(losses).mean()


def feature_matching_loss(real: Sequence[ScaleOutput], fake: Sequence[ScaleOutput]) -> Tensor:
    """L1 between D's inner features of real and fake, summed over layers, mean over scales."""
    losses = [
        torch.stack([F.l1_loss(b, a.detach()) for a, b in zip(r.features, f.features, strict=True)]).sum()
        for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(losses).mean()


def dice_loss(mask: Tensor, target_mask: Tensor) -> Tensor:
    """-log of the soft Dice coefficient, mean over the batch; 0 for identical masks."""
    axes = (1, 2, 3)
    overlap_B = 2 * (mask * target_mask).sum(axes) + 1
    total_B = (
        mask.square().sum(axes) + target_mask.square().sum(axes) + 1
    )  # +1 pixel: defined for empty masks
    return (total_B.log() - overlap_B.log()).mean()


def embedding_match_loss(identity_code_BD: Tensor, identity_row_BD: Tensor) -> Tensor:
    """L1 between identity codes and the discriminator's rows of the same people (Zakharov et al. 2019)."""
    return F.l1_loss(identity_code_BD, identity_row_BD)


class IdentityClassifier(nn.Module):
    """The identity loss: cross-entropy of a linear classifier over the training people."""

    def __init__(self, identity_dim: int, identities: int) -> None:
        super().__init__()
        self.linear = nn.Linear(identity_dim, identities)

    def forward(self, identity_code_BD: Tensor, identity_B: Tensor) -> Tensor:
        return F.cross_entropy(self.linear(identity_code_BD), identity_B)


class PerceptualLoss(nn.Module):
    """Weighted L1 between a frozen network's features of two images (equation 2).

    `centre_fraction` below 1 cuts out the central square of that share of the side and enlarges it
    back: `FACE_FRACTION` for networks that know faces.
    """

    def __init__(self, network: FeatureNetwork, *, centre_fraction: float = 1.0) -> None:
        super().__init__()
        if not 0 < centre_fraction <= 1:
            raise ValueError(f"centre_fraction must lie above 0 and at most at 1, got {centre_fraction}")
        self.network = network
        self.centre_fraction = centre_fraction

    @property
    def name(self) -> str:
        """Which network compares, for logs and tables."""
        return self.network.name

    def forward(self, image_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        features: list[Tensor] = self.network(self._centre(image_BCHW))
        with torch.no_grad():
            target_features: list[Tensor] = self.network(self._centre(target_BCHW))
        losses = []
        for weight, a, b in zip(self.network.layer_weights, features, target_features, strict=True):
            distance = F.l1_loss(a.float(), b.float())
            if self.network.compares_relatively:
                distance = distance / (b.float().abs().mean() + 1e-3)
            losses.append(weight * distance)
        return torch.stack(losses).sum()

    def _centre(self, image_BCHW: Tensor) -> Tensor:
        if self.centre_fraction == 1:
            return image_BCHW
        height, width = image_BCHW.shape[2:]
        side_y, side_x = round(height * self.centre_fraction), round(width * self.centre_fraction)
        top, left = (height - side_y) // 2, (width - side_x) // 2
        centre = image_BCHW[:, :, top : top + side_y, left : left + side_x]
        return F.interpolate(centre, (height, width), mode="bilinear", align_corners=False)


class ContrastiveSyncLoss(nn.Module):
    """Equation 1: softmax over cosines of a heard clip with the seen clip of the same moment and others.

    Negatives are the other clips of the batch and, if given, time-shifted pieces of the same clip.
    `symmetric` (stage 1) trains both encoders in both directions; `audio_only` (stage 2) is the
    equation as printed and stops the gradient into the visual branch. The paper's is temperature 1,
    whose loss cannot fall below log(1 + M e^-2) for M negatives.
    """

    def __init__(
        self, *, mode: SyncMode = "symmetric", temperature: float = 0.07, learns_temperature: bool = True
    ) -> None:
        super().__init__()
        if temperature < MIN_TEMPERATURE:
            raise ValueError(f"temperature must be at least {MIN_TEMPERATURE}, got {temperature}")
        self.mode = mode
        self.log_temperature = nn.Parameter(
            torch.tensor(math.log(temperature)), requires_grad=learns_temperature
        )

    @property
    def temperature(self) -> Tensor:
        raw = self.log_temperature.exp()
        # Held at the bound in value only: with a zero gradient there it could never rise again.
        return raw + (raw.clamp(min=MIN_TEMPERATURE) - raw).detach()

    def forward(
        self, visual_BF: Tensor, audio_BF: Tensor, shifted_visual_BMF: Tensor | None = None
    ) -> Tensor:
        """F: the content codes of T consecutive frames, assembled. M: shifted pieces per clip."""
        if self.mode == "audio_only":
            visual_BF = visual_BF.detach()
            shifted_visual_BMF = None if shifted_visual_BMF is None else shifted_visual_BMF.detach()
        visual_BF = F.normalize(visual_BF.float(), dim=1)
        audio_BF = F.normalize(audio_BF.float(), dim=1)
        logits = audio_BF @ visual_BF.T / self.temperature
        own = torch.arange(len(logits), device=logits.device)
        heard_to_seen = logits
        if shifted_visual_BMF is not None:
            shifted = F.normalize(shifted_visual_BMF.float(), dim=2)
            shifted_logits = (shifted @ audio_BF[:, :, None]).squeeze(2) / self.temperature
            heard_to_seen = torch.cat([logits, shifted_logits], dim=1)
        loss = F.cross_entropy(heard_to_seen, own)
        if self.mode == "audio_only":
            return loss
        return (loss + F.cross_entropy(logits.T, own)) / 2


class ReconstructionLoss(nn.Module):
    """All terms of one stream, unweighted, by the names of `LossWeights`."""

    def __init__(
        self,
        perceptual: PerceptualLoss,
        face_perceptual: PerceptualLoss | None = None,
        *,
        gan_mode: GanMode = "hinge",
        matches_features: bool = True,
    ) -> None:
        super().__init__()
        self.perceptual = perceptual
        self.face_perceptual = face_perceptual
        self.gan_mode: GanMode = gan_mode
        self.matches_features = matches_features

    def forward(
        self,
        image: Tensor,
        mask: Tensor,
        target_image: Tensor,
        target_mask: Tensor,
        *,
        real: Sequence[ScaleOutput],
        fake: Sequence[ScaleOutput],
    ) -> Terms:
        """`real` and `fake` are the discriminator's outputs for `target_image` and `image`."""
        terms = {
            "adversarial": adversarial_loss(fake, self.gan_mode),
            "l1": F.l1_loss(image, target_image),
            "perceptual": self.perceptual(image, target_image),
            "dice": dice_loss(mask, target_mask),
        }
        if self.face_perceptual is not None:
            terms["face_perceptual"] = self.face_perceptual(image, target_image)
        if self.matches_features:
            terms["feature_matching"] = feature_matching_loss(real, fake)
        return terms
