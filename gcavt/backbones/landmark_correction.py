"""What tracked landmarks add to an image encoder's code."""

from typing import cast

import torch
from torch import Tensor, nn

from gcavt.backbones.code_scale import to_unit_rms
from gcavt.backbones.landmark_lookup import LandmarkLookup
from gcavt.backbones.resnet_se import ResNetSE34
from gcavt.config import LANDMARK_NUMBERS, ResNetSEEncoderConfig


def landmark_correction(code_dim: int, looked_up: int = 0) -> nn.Sequential:
    """Code, landmarks and features looked up about them to what is to be added to the code.

    Nothing, as long as it is fresh.
    """
    last = nn.Linear(128, code_dim)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Linear(code_dim + LANDMARK_NUMBERS + looked_up, 256),
        nn.SiLU(),
        nn.Linear(256, 128),
        nn.SiLU(),
        last,
    )


class CorrectedEncoder(nn.Module):
    """An image backbone whose code landmarks may correct, and what is found about them: E_p, E_e, E_c."""

    def __init__(
        self,
        backbone: nn.Module,
        *,
        code_dim: int,
        is_normalised: bool,
        reads_landmarks: bool,
        local: LandmarkLookup | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.is_normalised = is_normalised
        self.local = local
        looked_up = 0 if local is None else local.out_features
        self.correction = landmark_correction(code_dim, looked_up) if reads_landmarks else None

    def forward(self, image: Tensor, landmarks: Tensor | None = None) -> Tensor:
        """Images (B, 3, S, S), RGB in [0, 1], and landmarks (B, 136) to codes (B, code_dim).

        Without landmarks, or in a model that reads none, the code is what the image alone says. Raises
        ValueError for landmarks in a model that reads none.
        """
        if landmarks is None:
            return self._scaled(self.backbone(image))
        if self.correction is None:
            raise ValueError("this encoder reads no landmarks")
        if self.local is None:
            code, known = self._scaled(self.backbone(image)), landmarks
        else:
            backbone = cast(ResNetSE34, self.backbone)
            early = backbone.first_stage(image)
            code = self._scaled(backbone.rest(early))
            found = self.local.about(early, self.points_in_image(landmarks))
            known = torch.cat([self.level(landmarks), found], 1)
        change: Tensor = self.correction(torch.cat([code, known], 1))
        return self._scaled(code + change)

    def points_in_image(self, landmarks: Tensor) -> Tensor:
        """(B, 68, 2) where landmarks lie in the image, from -1 to 1."""
        raise NotImplementedError

    def level(self, landmarks: Tensor) -> Tensor:
        """`gcavt.preprocessing.face_landmarks`, unless that is what landmarks are."""
        return landmarks

    def _scaled(self, code_BD: Tensor) -> Tensor:
        return to_unit_rms(code_BD) if self.is_normalised else code_BD


def lookup_of(encoder: ResNetSEEncoderConfig) -> LandmarkLookup | None:
    """For an encoder whose config asks for it."""
    return LandmarkLookup(encoder.widths[0], encoder.looked_up) if encoder.looked_up else None
