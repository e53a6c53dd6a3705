from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import pytest

from clients import build
from trt_build.flavours import parse_targets, targets_text


def _arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    build.add_arguments(parser)
    return parser.parse_args(words)


def _error(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert build.run(_arguments(*words)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_targets_are_compute_capabilities_in_order() -> None:
    assert parse_targets("12.0, 8.9,8.9") == ((8, 9), (12, 0))
    assert targets_text(parse_targets("8.9,12.0")) == "8.9,12.0"


@pytest.mark.parametrize("text", ["", "ada", "8", "8.", "8.9,", "8.9;12.0"])
def test_what_is_no_target_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="a target is a compute capability such as 8.9"):
        parse_targets(text)


def test_a_wrong_target_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs the extra rtx")
    assert "a target is a compute capability such as 8.9, got 'ada'" in _error(
        capsys, "lite", "--target", "ada"
    )


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_a_missing_flavour_names_what_installs_it(capsys: pytest.CaptureFixture[str]) -> None:
    said = _error(capsys, "lite", "--flavour", "tensorrt")
    assert "TensorRT is not installed or does not load" in said
    assert "pip install 'gcavt-live[tensorrt]'" in said


def test_no_frames_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "frames must be positive, got 0" in _error(capsys, "lite", "--frames", "0")


def test_a_missing_model_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs the extra rtx")
    assert "does not exist" in _error(capsys, str(tmp_path / "none" / "here"))
