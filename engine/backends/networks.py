"""Checks that every backend makes on the tensors it is given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from trt_build.specs import EngineSpec


def input_arrays(
    spec: EngineSpec, inputs: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """The inputs that `spec` names, contiguous float32, all of one batch size; further ones are ignored.

    Raises KeyError for a missing tensor and ValueError for a wrong shape or batch.
    """
    arrays: dict[str, NDArray[np.float32]] = {}
    batch: int | None = None
    for tensor in spec.inputs:
        if tensor.name not in inputs:
            raise KeyError(f"{spec.name} needs the tensor {tensor.name}")
        array = np.ascontiguousarray(inputs[tensor.name], np.float32)
        batch = array.shape[0] if batch is None and array.ndim else batch
        if batch is None or array.shape != tensor.with_batch(batch):
            raise ValueError(f"{spec.name}.{tensor.name} must be {tensor.shape}, got {array.shape}")
        arrays[tensor.name] = array
    if batch is not None and not spec.batch.least <= batch <= spec.batch.largest:
        raise ValueError(
            f"{spec.name} takes batches of {spec.batch.least} to {spec.batch.largest}, got {batch}"
        )
    return arrays


def batch_size(arrays: Mapping[str, NDArray[np.float32]]) -> int:
    """Length of the first axis, which `input_arrays` has made sure is the same everywhere."""
    return len(next(iter(arrays.values())))
