from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from trt_build.accuracy import (
    Accuracy,
    AccuracyError,
    Arrays,
    Call,
    Difference,
    Recorder,
    accuracy_table,
    compare,
    frames_of,
)


class _Brighter:
    """Networks whose pictures are brighter by a fixed amount."""

    name, provider = "brighter", "numpy"

    def __init__(self, by: float) -> None:
        self._by = by

    def run(self, network: str, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        name = "image" if network == "generator" else "code"
        return {name: inputs["x"] + np.float32(self._by)}

    def close(self) -> None:
        pass


def _played(networks: _Brighter) -> list[Call]:
    recorder = Recorder(networks)
    rng = np.random.default_rng(0)
    for network in ("pose_encoder", "generator", "pose_encoder", "generator"):
        recorder.run(network, {"x": rng.random((1, 3, 4, 4), np.float32)})
    return recorder.calls


def _accuracy(by: float, precision: str) -> Accuracy:
    networks = _Brighter(by)
    return compare(networks, precision, _played(_Brighter(0.0)), _played(networks))


def test_the_psnr_of_an_even_error_is_its_size_in_decibels() -> None:
    (result,) = _accuracy(0.01, "fp16").kinds.values()
    assert result.picture.psnr_db == pytest.approx(40.0, abs=1e-3)
    assert result.picture.largest == pytest.approx(0.01, abs=1e-6)
    assert set(result.networks) == {"pose_encoder", "generator"}
    assert result.frames == 2


def test_every_kind_of_picture_must_pass() -> None:
    reference, replayed = (_played(_Brighter(by)) for by in (0.0, 0.002))
    worse = _played(_Brighter(0.02))
    for calls in (reference, replayed, worse):
        calls += [replace(call, label="photographed") for call in calls]
    mixed = compare(_Brighter(0.002), "fp16", reference, replayed[:4] + worse[4:])
    assert {name: kind.frames for name, kind in mixed.kinds.items()} == {"": 2, "photographed": 2}
    assert not mixed.passes
    assert mixed.least_psnr_db() == pytest.approx(34.0, abs=0.1)
    assert mixed.least_psnr_db("generator") > 50
    assert "photographed, 2 frames" in accuracy_table([mixed])


@pytest.mark.parametrize(
    ("by", "precision", "passes"),
    [(0.009, "fp16", True), (0.012, "fp16", False), (0.012, "int8", True), (0.02, "int8", False)],
)
def test_each_precision_has_its_own_threshold(by: float, precision: str, passes: bool) -> None:
    assert _accuracy(by, precision).passes is passes


def test_below_the_threshold_the_message_says_how_far() -> None:
    with pytest.raises(
        AccuracyError, match=r"brighter in fp16: the picture's PSNR is 34\.0 dB, .* asks for 40 dB"
    ):
        _accuracy(0.02, "fp16").check()


def test_what_is_no_number_does_not_pass() -> None:
    assert not _accuracy(math.nan, "fp16").passes


def test_no_difference_is_infinitely_near() -> None:
    result = _accuracy(0.0, "fp32")
    assert result.least_psnr_db() == math.inf
    assert result.passes
    assert result.to_json()["picture_psnr_db"] is None


def test_codes_are_measured_by_their_own_size() -> None:
    difference = Difference()
    difference.add({"code": np.full(4, 10.1, np.float32)}, {"code": np.full(4, 10.0, np.float32)})
    assert difference.psnr_db == pytest.approx(40.0, abs=0.01)


def test_a_recording_keeps_what_went_in() -> None:
    recorder = Recorder(_Brighter(0.0))
    recorder.label = "photographed"
    array = np.zeros((1, 2), np.float32)
    recorder.run("pose_encoder", {"x": array})
    array += 1
    assert frames_of(recorder.calls, "pose_encoder")[0]["x"].max() == 0
    assert frames_of(recorder.calls, "generator") == []
    assert recorder.calls[0].label == "photographed"


def test_the_table_names_every_network_and_the_verdict() -> None:
    text = accuracy_table([_accuracy(0.02, "fp16")])
    assert "pose_encoder" in text
    assert "whole path, picture" in text
    assert "FAILS: the gate asks for 40 dB" in text
