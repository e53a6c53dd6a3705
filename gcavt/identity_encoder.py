"""E_i: who it is. A ResNeXt over portraits; the codes of K portraits are averaged."""

from torch import Tensor, nn

from gcavt.backbones.resnext import ResNeXt
from gcavt.config import GcavtConfig


class IdentityEncoder(nn.Module):
    def __init__(self, config: GcavtConfig) -> None:
        super().__init__()
        self.backbone = ResNeXt(
            blocks=config.identity.blocks,
            cardinality=config.identity.cardinality,
            base_width=config.identity.base_width,
            stem_channels=config.identity.stem_channels,
            output_dim=config.identity_dim,
        )

    def forward(self, portrait_image: Tensor) -> Tensor:
        """Portraits (B, 3, S, S), RGB in [0, 1], to identity codes (B, identity_dim). Any S from 32."""
        identity_code: Tensor = self.backbone(portrait_image)
        return identity_code

    def average(self, portrait_images_BKCHW: Tensor) -> Tensor:
        """K portraits per person (B, K, 3, S, S) to one code each: the arithmetic mean, not normalised."""
        batch, portraits = portrait_images_BKCHW.shape[:2]
        codes: Tensor = self(portrait_images_BKCHW.flatten(0, 1))
        return codes.reshape(batch, portraits, -1).mean(1)
