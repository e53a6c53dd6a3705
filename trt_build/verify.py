"""An exported network against its PyTorch module: same inputs, largest difference."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn

from gcavt.code_space import POSE_SCALE
from trt_build.specs import EngineSpec, TensorSpec

SIDE_YAW_DEG = 30.0
"""How far heads are turned in sampled side portraits."""

Arrays = dict[str, NDArray[np.float32]]


def sample_inputs(spec: EngineSpec, batch: int, seed: int = 0) -> Arrays:
    """Random but plausible inputs: images in [0, 1], codes of unit variance, crops inside the portrait."""
    return {tensor.name: _sample(tensor, batch, seed) for tensor in spec.inputs}


def _sample(tensor: TensorSpec, batch: int, seed: int) -> NDArray[np.float32]:
    # seeded by name, so that a tensor two networks share has the same values in both
    rng = np.random.default_rng([seed, zlib.crc32(tensor.name.encode())])
    shape = tensor.with_batch(batch)
    if tensor.name == "crop_origin":
        return rng.integers(20, 60, shape).astype(np.float32)
    if tensor.name == "reference_pose":
        return (rng.standard_normal(shape) * POSE_SCALE).astype(np.float32)
    if tensor.name == "side_poses":
        ahead = rng.standard_normal((*shape[:-1], 2, POSE_SCALE.size)) * POSE_SCALE
        ahead[..., 1] += np.array([-SIDE_YAW_DEG, SIDE_YAW_DEG])
        return ahead.reshape(shape).astype(np.float32)
    if tensor.name.endswith("_code"):
        return rng.standard_normal(shape).astype(np.float32)
    return rng.random(shape, np.float32)


def module_outputs(module: nn.Module, spec: EngineSpec, inputs: Arrays) -> Arrays:
    """What the PyTorch module makes of the inputs, by tensor name."""
    with torch.no_grad():
        results = module(*(torch.from_numpy(inputs[name]) for name in spec.input_names))
    tensors = (results,) if isinstance(results, torch.Tensor) else results
    return {name: t.numpy() for name, t in zip(spec.output_names, tensors, strict=True)}


def onnx_outputs(model: Path | bytes, spec: EngineSpec, inputs: Arrays) -> Arrays:
    """What ONNX Runtime makes of the inputs, by tensor name."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    results = session.run(spec.output_names, inputs)
    return dict(zip(spec.output_names, results, strict=True))


def largest_difference(outputs: Arrays, reference: Arrays) -> float:
    """Largest absolute difference over all tensors of the reference."""
    return max(float(np.abs(outputs[name] - values).max()) for name, values in reference.items())
