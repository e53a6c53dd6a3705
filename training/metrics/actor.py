"""A model under measurement: a checkpoint or a bundle, run through the engine's own puppeteer."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.backends.backend import Backend, open_backend
from engine.bundle import Bundle
from engine.codes import DrivingCodes
from engine.puppeteer import IdentityState, Puppeteer
from gcavt.checkpoint import read_checkpoint
from trt_build.export import code_space_of, neutral_codes
from trt_build.manifest import CHECKPOINT_NAME, Manifest

Image = NDArray[np.uint8]
Points = NDArray[np.float32]

CODE_OF = {"pose": "pose_code", "expression": "expression_code", "mouth": "content_code"}
"""Name of each driver's field in DrivingCodes."""


class Actor:
    """Portraits to identities, frames to codes, codes to pictures."""

    def __init__(self, manifest: Manifest, backend: Backend, folder: Path) -> None:
        """`folder` is for the portraits of identities that do not come with the model."""
        self.manifest = manifest
        self.provider = backend.provider
        self._backend = backend
        self._folder = folder
        self.puppeteer = Puppeteer(Bundle(directory=folder, manifest=manifest), backend)

    def identity(
        self,
        name: str,
        portraits: Sequence[Image],
        reference_pose: NDArray[np.float32],
        crop_origin: NDArray[np.integer],
        side_poses: NDArray[np.float32] | None = None,
    ) -> IdentityState:
        """An identity from portraits (256 px RGB on black) whose pose and face crops are exactly known.

        side_poses (12,): of the third and fourth portrait, the head turned to the picture's left and right.
        """
        folder = self._folder / "identities" / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, portrait in enumerate(portraits):
            cv2.imwrite(str(folder / f"portrait_{number}.png"), portrait[:, :, ::-1])
        facts = {"reference_pose": reference_pose.tolist(), "crop_origin": crop_origin.tolist()}
        if side_poses is not None:
            facts["side_poses"] = side_poses.tolist()
        (folder / "identity.json").write_text(json.dumps(facts))
        return self.puppeteer.identity_from_bank(name)

    @property
    def has_exact_codes(self) -> bool:
        """See `Puppeteer`."""
        return self.puppeteer.has_exact_codes

    def codes(self, frame: Image, landmarks_68: Points) -> DrivingCodes:
        """What the encoders read from a 256 px driving crop."""
        return self.puppeteer.codes_of_face(frame, landmarks_68)

    def draw(self, identity: IdentityState, codes: DrivingCodes) -> Image:
        """The generator's picture on black, for codes as they are: poses are not bent into reach.

        Live performances go through `puppeteer.generate`, which bends them.
        """
        inputs = {**identity.tensors, **{name: code[None] for name, code in codes._asdict().items()}}
        image = self._backend.run("generator", inputs)["image"][0]
        return np.asarray(np.round(image.clip(0, 1) * 255).transpose(1, 2, 0), np.uint8)


@contextmanager
def opened(model: str, *, backend: str | None = None) -> Iterator[Actor]:
    """The actor of a checkpoint (a .safetensors file; PyTorch) or of a bundle (a folder or a name).

    Raises CheckpointError, BundleError, BackendMissingError.
    """
    with tempfile.TemporaryDirectory(prefix="gcavt-evaluate-") as name:
        folder = Path(name)
        if model.endswith(".safetensors"):
            manifest, running = _checkpoint(Path(model), folder)
        else:
            bundle = Bundle.open(model)
            manifest, running = bundle.manifest, open_backend(backend or "openvino", bundle.directory)
        try:
            yield Actor(manifest, running, folder)
        finally:
            running.close()


def _checkpoint(path: Path, folder: Path) -> tuple[Manifest, Backend]:
    checkpoint = read_checkpoint(path)
    space = code_space_of(checkpoint)
    (folder / CHECKPOINT_NAME).symlink_to(path.resolve())
    manifest = Manifest(
        name=path.stem,
        config=checkpoint.config,
        networks={},
        code_space=space,
        neutral=neutral_codes(space),
        provenance=checkpoint.provenance,
    )
    return manifest, open_backend("pytorch", folder, threads=1)
