from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

from clients.bench import render
from clients.bench.render import Drawn, together_fps


def test_processes_that_draw_side_by_side_add_up() -> None:
    assert together_fps([Drawn(0.5, 2.0), Drawn(0.5, 4.0)], frames=40) == pytest.approx(30)


def test_both_renderers_are_measured_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    render.add_arguments(parser)
    words = "--people 1 --frames 3 --size 64 --processes 1 --torch-frames 1"
    assert render.run(parser.parse_args(words.split())) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["bench"] == "render"
    assert line["ours"]["fps"] == pytest.approx(1000 / line["ours"]["wall_p50_ms"], rel=0.5)
    assert 0 < line["ours"]["wall_p50_ms"] < line["torch"]["wall_p50_ms"]


def test_a_performance_is_reproducible() -> None:
    renderer = render.renderer_of(1001, 64)
    first, second = (render.performance(renderer, 7, 4) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one, other)
    assert first[0].shape == (4, 52)
    assert first[1].shape == (4, 6)
