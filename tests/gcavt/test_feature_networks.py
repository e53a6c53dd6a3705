import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gcavt.feature_networks import (
    VGG19_LAYERS,
    VGG19_WEIGHTS,
    Vgg19Features,
    efficientnet_lite0_features,
    vgg19_features,
)


def test_efficientnet_lite0_names_itself_and_gives_five_resolutions() -> None:
    network = efficientnet_lite0_features()
    features = network(torch.rand(1, 3, 128, 128))
    assert network.name == "efficientnet_lite0"
    assert [tuple(f.shape[1:]) for f in features] == [
        (32, 64, 64),
        (24, 32, 32),
        (40, 16, 16),
        (112, 8, 8),
        (320, 4, 4),
    ]
    assert len(network.layer_weights) == 5


def test_efficientnet_lite0_passes_gradients_to_the_image_and_keeps_none() -> None:
    network = efficientnet_lite0_features(("stem", "block_2"))
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    torch.autograd.backward([f.abs().mean() for f in network(image)])
    assert image.grad is not None and image.grad.abs().max() > 0
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(name.startswith("blocks.3") for name, _ in network.named_modules())  # nothing deeper


def test_pretrained_features_stay_in_evaluation_mode() -> None:
    network = efficientnet_lite0_features(("stem",))
    torch.nn.Sequential(network).train()
    assert not any(m.training for m in network.modules())


def test_unknown_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="block_0 to block_15"):
        efficientnet_lite0_features(("relu1_1",))


def test_vgg19_has_torchvisions_trunk() -> None:
    with torch.device("meta"):
        network = Vgg19Features("vgg19", VGG19_LAYERS, VGG19_WEIGHTS)
        features = network(torch.empty(1, 3, 64, 64))
    assert sum(p.numel() for p in network.parameters()) == 20_024_384
    assert network.wanted == (1, 6, 11, 20, 29)
    assert [tuple(f.shape[1:]) for f in features] == [
        (64, 64, 64),
        (128, 32, 32),
        (256, 16, 16),
        (512, 8, 8),
        (512, 4, 4),
    ]


def test_vgg19_of_another_digest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vgg19.pth"
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="has sha256 .*, expected 00"):
        vgg19_features(path, "00" * 32)


def test_file_without_a_vgg19_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vgg19.safetensors"
    save_file({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(ValueError, match="does not hold a VGG-19"):
        vgg19_features(path, hashlib.sha256(path.read_bytes()).hexdigest())


def test_missing_vgg19_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        vgg19_features(tmp_path / "nowhere.pth", "00" * 32)
