"""E_a: what the mouth says, heard. A ResNetSE34 over 0.2 s of mel spectrogram."""

from torch import Tensor, nn

from gcavt.backbones.code_scale import to_unit_rms
from gcavt.backbones.resnet_se import ResNetSE34
from gcavt.config import GcavtConfig


class AudioEncoder(nn.Module):
    def __init__(self, config: GcavtConfig) -> None:
        super().__init__()
        self.backbone = ResNetSE34(
            input_channels=1,
            input_rows=config.mel_bands,
            output_dim=config.content_dim,
            widths=config.audio.widths,
            stem=config.audio.stem,
            pooling=config.audio.pooling,
        )
        self.is_normalised = config.audio.normalise

    def forward(self, mel_window: Tensor) -> Tensor:
        """Mel windows (B, 1, mel_bands, mel_frames) in [0, 1] to content codes (B, content_dim)."""
        content_code: Tensor = self.backbone(mel_window)
        return to_unit_rms(content_code) if self.is_normalised else content_code
