"""The shipped generator's inputs as a performance gives them, and how near two of its pictures are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.backends.backend import open_backend
from engine.bundle import Bundle
from engine.puppeteer import Puppeteer
from gcavt import code_space


def psnr_db(image: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    return float(-10 * np.log10(np.mean((image - exact) ** 2)))


def turned_character(turn_deg: float) -> dict[str, NDArray[np.float32]]:
    """A character of the bank at rest, turned from its portrait."""
    bundle = Bundle.open("lite")
    backend = open_backend("openvino-fp32", bundle.directory)
    tensors = Puppeteer(bundle, backend).identity_from_bank("freya").tensors
    backend.close()
    pose = tensors["reference_pose"] + np.float32(turn_deg) * np.eye(6, dtype=np.float32)[1]
    nothing = np.zeros((1, len(code_space.COEFFICIENTS)), np.float32)
    return {
        **tensors,
        "pose_code": code_space.pose_code(pose),
        "expression_code": code_space.expression_code(nothing),
        "content_code": code_space.content_code(nothing),
    }
