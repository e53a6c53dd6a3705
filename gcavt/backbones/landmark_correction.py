"""What tracked landmarks add to an image encoder's code."""

import torch
from torch import Tensor, nn

from gcavt.backbones.code_scale import to_unit_rms
from gcavt.config import LANDMARK_NUMBERS


def landmark_correction(code_dim: int) -> nn.Sequential:
    """Code and landmarks to what is to be added to the code: nothing, as long as it is fresh."""
    last = nn.Linear(128, code_dim)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Linear(code_dim + LANDMARK_NUMBERS, 256), nn.SiLU(), nn.Linear(256, 128), nn.SiLU(), last
    )


class CorrectedEncoder(nn.Module):
    """An image backbone whose code landmarks may correct. Base of E_p, E_e and E_c."""

    def __init__(
        self, backbone: nn.Module, *, code_dim: int, is_normalised: bool, reads_landmarks: bool
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.is_normalised = is_normalised
        self.correction = landmark_correction(code_dim) if reads_landmarks else None

    def forward(self, image: Tensor, landmarks: Tensor | None = None) -> Tensor:
        """Images (B, 3, S, S), RGB in [0, 1], and landmarks (B, 136) to codes (B, code_dim).

        Without landmarks, or in a model that reads none, the code is what the image alone says.
        """
        code = self._scaled(self.backbone(image))
        return code if landmarks is None else self.corrected(code, landmarks)

    def corrected(self, code_BD: Tensor, landmarks: Tensor) -> Tensor:
        """The code of an image, corrected. Raises ValueError in a model that reads no landmarks."""
        if self.correction is None:
            raise ValueError("this encoder reads no landmarks")
        change: Tensor = self.correction(torch.cat([code_BD, landmarks], 1))
        return self._scaled(code_BD + change)

    def _scaled(self, code_BD: Tensor) -> Tensor:
        return to_unit_rms(code_BD) if self.is_normalised else code_BD
