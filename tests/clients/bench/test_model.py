from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from clients.bench import model as bench
from clients.bench.flops import gflop
from clients.bench.interleaved import WARM_UP_RUNS, timed_in_turns
from clients.bench.model import report, sessions_at_25_fps
from clients.bench.model_plot import draw
from clients.bench.torch_variants import VARIANTS, CompiledPyTorch, Variant
from engine.backends.backend import open_backend
from engine.bundle import Bundle
from trt_build.specs import EngineSpec, TensorSpec, engine_specs
from trt_build.verify import largest_difference, sample_inputs


def test_a_convolution_counts_two_operations_per_multiplication(tmp_path: Path) -> None:
    weights = [
        numpy_helper.from_array(np.zeros((8, 3, 3, 3), np.float32), "w"),
        numpy_helper.from_array(np.zeros((8, 5), np.float32), "v"),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["a"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["code"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 10, 12])
    code = helper.make_tensor_value_info("code", TensorProto.FLOAT, ["batch", 5])
    graph = helper.make_graph(nodes, "g", [image], [code], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "g.onnx")
    spec = EngineSpec(
        name="g",
        inputs=(TensorSpec(name="image", shape=("batch", 3, 10, 12)),),
        outputs=(TensorSpec(name="code", shape=("batch", 5)),),
    )
    assert gflop(tmp_path / "g.onnx", spec) == pytest.approx((2 * 8 * 120 * 27 + 2 * 8 * 5) / 1e9)


def test_workloads_take_turns_in_changing_order() -> None:
    order: list[str] = []
    work = {name: (lambda name=name: order.append(name)) for name in "abc"}
    timings = timed_in_turns(work, 20, label="test")
    rounds = [order[3 * WARM_UP_RUNS :][i : i + 3] for i in range(0, 60, 3)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len({tuple(names) for names in rounds}) > 2
    assert all(len(timing.wall_ms) == len(timing.cpu_ms) == 20 for timing in timings.values())


def _row(batch: int, p95_ms: float, path: str | None = "audio", threads: int = 2) -> dict[str, object]:
    return {
        "model": "lite",
        "network": None if path else "generator",
        "path": path,
        "backend": "rtx",
        "precision": "fp16",
        "batch": batch,
        "threads": threads,
        "wall_p50_ms": p95_ms / 2,
        "wall_p95_ms": p95_ms,
        "wall_p99_ms": p95_ms,
        "cpu_p50_ms": p95_ms / 4,
        "gflop": 1.0,
        "gflop_per_s": 10.0,
        "share_of_peak": 0.5,
        "memory_mb": 100.0,
    }


def test_sessions_are_the_largest_batch_that_is_in_time() -> None:
    rows = [_row(1, 5.0), _row(8, 39.9), _row(16, 40.1), _row(32, 20.0, path="video")]
    assert sessions_at_25_fps(rows) == {"lite, rtx fp16": 8}


def test_the_report_names_peaks_and_sessions() -> None:
    text = report(
        [_row(1, 5.0), _row(1, 3.0, path=None)], {"gflop_per_s": 100.0, "gb_per_s": 10.0, "threads": 2}
    )
    assert "lite audio path, rtx fp16" in text
    assert "lite generator, rtx fp16" in text
    assert "peak: 100 GFLOP/s in a matrix product, 10 GB/s copied" in text
    assert "sessions at 25 fps, p95 within a frame: lite, rtx fp16: 1" in text


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    rows = [_row(1, 5.0), _row(2, 9.0), _row(1, 8.0, threads=1), _row(1, 7.0, path="video")]
    draw(rows, tmp_path / "figures.png")
    assert (tmp_path / "figures.png").read_bytes().startswith(b"\x89PNG")


def _arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(words)


def test_a_backend_that_does_not_run_here_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bench.run(_arguments("lite", "--backends", "abacus")) == 2
    assert capsys.readouterr().err.startswith("gcavt bench model: unknown backend 'abacus'")


@pytest.mark.slow
def test_the_last_line_is_json_with_a_row_per_network_and_path(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("lite", "--backends", "openvino,onnxruntime", "--rounds", "2", "--threads", "1", "--no-scaling")
    assert bench.run(_arguments(*words)) == 0
    values = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert values["bench"] == "model"
    assert {"machine", "versions", "peaks", "rows"} <= set(values)
    rows = values["rows"]
    assert {(row["network"] is None) != (row["path"] is None) for row in rows} == {True}
    assert {row["path"] for row in rows} == {None, "audio", "video"}
    assert all(row["wall_p50_ms"] > 0 and row["cpu_p50_ms"] > 0 and row["gflop"] > 0 for row in rows)


@pytest.mark.gpu
@pytest.mark.parametrize("variant", VARIANTS)
def test_compiled_pytorch_agrees_with_eager(variant: Variant) -> None:
    bundle = Bundle.open("lite")
    inputs = sample_inputs(engine_specs(bundle.config)["pose_encoder"], 2)
    compiled = CompiledPyTorch(bundle.directory, variant)
    eager = open_backend("pytorch", bundle.directory)
    for _ in range(3):  # a CUDA graph is captured in the second run
        outputs = compiled.run("pose_encoder", inputs)
    assert largest_difference(outputs, eager.run("pose_encoder", inputs)) < 1e-3
