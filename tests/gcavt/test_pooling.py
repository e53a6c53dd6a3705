import torch

from gcavt.backbones.mobilenet import MobileNetV2
from gcavt.backbones.pooling import MeanPooling, SpatialPooling
from gcavt.backbones.resnet_se import ResNetSE34


def test_only_spatial_pooling_tells_where_something_is() -> None:
    torch.manual_seed(0)
    here = torch.rand(2, 8, 4, 4)
    there = here.roll(1, 3)
    mean, spatial = MeanPooling(), SpatialPooling(8, 6).eval()
    torch.testing.assert_close(mean(here), mean(there))
    assert spatial(here).shape == (2, 6 * 16)
    assert (spatial(here) - spatial(there)).abs().mean() > 0.05


def test_both_backbones_take_the_size_they_were_made_for() -> None:
    face = ResNetSE34(
        input_channels=3,
        input_rows=96,
        output_dim=5,
        widths=(4, 4, 8, 8),
        stem="conv7x7_stride2",
        pooling="spatial",
    )
    head = MobileNetV2(output_dim=3, dropout=0.0, input_px=64, pooling="spatial")
    with torch.no_grad():
        assert face.eval()(torch.rand(2, 3, 96, 96)).shape == (2, 5)
        assert head.eval()(torch.rand(2, 3, 64, 64)).shape == (2, 3)
