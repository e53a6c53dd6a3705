"""Tiny random-weight bundles of both generator members, exported once per state of the model's source."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gcavt.config import EditReposeGeneratorConfig, GcavtConfig, MobileNetEncoderConfig

Member = Literal["adain", "edit_repose"]
MEMBERS: tuple[Member, ...] = ("adain", "edit_repose")

ROOT = Path(__file__).parent.parent
SOURCES = (
    "gcavt/config.py gcavt/model.py gcavt/*generator.py gcavt/*encoder.py gcavt/backbones/*.py "
    "gcavt/edit_repose*.py gcavt/phase_convolution.py gcavt/code_space.py gcavt/checkpoint.py "
    "trt_build/export.py trt_build/manifest.py trt_build/modules.py trt_build/specs.py trt_build/verify.py "
    "trt_build/weights.py tests/bundles.py"
).split()


@dataclass(frozen=True)
class TinyBundles:
    """Directories <member>-<half|full>, each a bundle with the identity `astronaut`. Not to be changed."""

    directory: Path

    def path(self, member: Member, *, fp32_weights: bool = False) -> Path:
        return self.directory / f"{member}-{'full' if fp32_weights else 'half'}"


def tiny_config(member: Member) -> GcavtConfig:
    """The smallest config of a member; only the second one's pose encoder sees the face."""
    tiny = replace(GcavtConfig.tiny(), expression=MobileNetEncoderConfig(input_px=64, normalise=True))
    if member == "adain":
        return tiny
    generator = EditReposeGeneratorConfig(
        editor_channels=(4, 8, 8, 8), reference_channels=(4, 8, 8), reposer_channels=(8, 8, 8, 8, 8)
    )
    return replace(tiny, name="tiny_edit_repose", generator=generator)


@pytest.fixture(scope="session")
def tiny_bundles(pytestconfig: pytest.Config) -> TinyBundles:
    """Exported in about a minute, then found in pytest's cache until a source file of the model changes."""
    cache = pytestconfig.cache
    assert cache is not None
    directory = cache.mkdir("bundles") / _source_hash()
    if not directory.exists():
        building = directory.with_name(f"{directory.name}.building")
        shutil.rmtree(building, ignore_errors=True)
        _export(TinyBundles(building))
        for stale in set(directory.parent.iterdir()) - {building}:
            shutil.rmtree(stale)
        building.rename(directory)
    return TinyBundles(directory)


@pytest.fixture
def tiny_bundle(tiny_bundles: TinyBundles, tmp_path: Path) -> Iterator[Path]:
    """A private copy of the edit_repose bundle, to be changed at will."""
    yield Path(shutil.copytree(tiny_bundles.path("edit_repose"), tmp_path / "bundle"))


def astronaut() -> NDArray[np.uint8]:
    """Eileen Collins, NASA, public domain: 512 x 512 RGB from scikit-image's own files."""
    from skimage import data

    return np.asarray(data.astronaut(), np.uint8)


def _source_hash() -> str:
    digest = hashlib.sha256()
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _export(bundles: TinyBundles) -> None:
    from trt_build.export import trace_networks, write_bundle

    models = {member: _model(tiny_config(member)) for member in MEMBERS}
    encoders = [name for name in dict(models["adain"].named_children()) if name.endswith("_encoder")]
    for name in encoders:
        models["adain"].get_submodule(name).load_state_dict(
            models["edit_repose"].get_submodule(name).state_dict()
        )
    traced = {"edit_repose": trace_networks(models["edit_repose"])}
    shared = {name: traced["edit_repose"][name] for name in encoders}
    traced["adain"] = shared | trace_networks(models["adain"], ["generator"])
    for member in MEMBERS:
        for fp32_weights in (False, True):
            directory = bundles.path(member, fp32_weights=fp32_weights)
            write_bundle(
                models[member],
                traced[member],
                directory,
                name=f"tiny-{member}",
                space="exact" if member == "edit_repose" else "free",
                provenance={"steps": 0},
                fp32_weights=fp32_weights,
            )
            _add_identity(directory)


def _model(config: GcavtConfig) -> Any:
    """Random weights with activations of a trained network's size, and no layer that starts as zero."""
    import torch

    from gcavt.model import Gcavt
    from trt_build.modules import network_modules
    from trt_build.specs import engine_specs
    from trt_build.verify import sample_inputs

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        model = Gcavt(config)
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.01)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
                module.momentum = 1.0  # the statistics of one batch
        model.train()
        specs = engine_specs(config)
        for name, network in network_modules(model).items():
            if name != "generator":
                network(*(torch.from_numpy(a) for a in sample_inputs(specs[name], 16).values()))
    return model.eval()


def _add_identity(bundle: Path) -> None:
    directory = bundle / "identities" / "astronaut"
    directory.mkdir(parents=True)
    portrait = cv2.resize(astronaut()[0:220, 110:330], (256, 256), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(directory / "portrait_0.png"), cv2.cvtColor(portrait, cv2.COLOR_RGB2BGR))
    (directory / "identity.json").write_text(
        '{"name": "astronaut", "reference_pose": [0, 0, 0, 0, 0, 0], "crop_origin": [56, 60, 56, 60], '
        '"licence": "public domain (NASA)"}'
    )
