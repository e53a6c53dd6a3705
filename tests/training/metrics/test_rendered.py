"""The evaluation's loops with models whose right figures are known."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from engine.codes import DrivingCodes
from gcavt import code_space
from training.metrics.actor import Actor, Image
from training.metrics.held_out import SAME_RENDER, Acting, HeldOut
from training.metrics.reader import FaceReader
from training.metrics.rendered import evaluate_control, evaluate_modes


class Renders(Actor):
    """Draws the exact render of exact codes; `leaks` lets the pose driver's mouth through, in part."""

    def __init__(self, held_out: HeldOut, *, mouth_share: float = 1.0, follows_pose: bool = True) -> None:
        self.held_out = held_out
        self.mouth_share, self.follows_pose = mouth_share, follows_pose

    @property
    def has_exact_codes(self) -> bool:
        return True

    def codes(self, frame: Image, landmarks_68: Any) -> DrivingCodes:
        """Looks up the frame's own exact codes by the picture, which the background leaves as it is."""

        def gap(index: int) -> float:
            shown = self.held_out.shown(index)
            inside = shown.alpha == 255
            return float(np.abs(shown.image[inside].astype(float) - frame[inside]).mean())

        nearest = min(range(len(self.held_out.triples)), key=gap)
        if gap(nearest) < SAME_RENDER:
            return self.held_out.acting(nearest).codes
        nothing = np.zeros(len(code_space.COEFFICIENTS), np.float32)
        return Acting(pose=np.zeros(6, np.float32), expression=nothing, mouth=nothing).codes

    def identity(self, name: str, *facts: Any) -> Any:
        return int(self.held_out.triples.identity_of_reference[int(name.rpartition("_")[2])])

    def draw(self, identity: Any, codes: DrivingCodes) -> Image:
        from gcavt.code_space import content_weights, expression_weights, pose_from_code

        acting = Acting(
            pose=pose_from_code(codes.pose_code) * np.float32(self.follows_pose),
            expression=expression_weights(codes.expression_code),
            mouth=self.mouth_share * content_weights(codes.content_code),
        )
        return self.held_out.render(identity, acting).image


@pytest.fixture(scope="module")
def reader() -> Iterator[FaceReader]:
    with FaceReader() as reader:
        yield reader


def test_a_perfect_model_gets_perfect_figures(held_out: HeldOut, reader: FaceReader) -> None:
    modes, rows = evaluate_modes(Renders(held_out), held_out, reader, 1)
    for figures in modes.values():
        assert figures["ssim"] > 0.995
        assert figures["landmark_px"] == pytest.approx(figures["tool_landmark_px"], abs=0.2)
    assert len(rows) == 1


def test_a_perfect_model_responds_fully_and_leaks_nothing(held_out: HeldOut, reader: FaceReader) -> None:
    control = evaluate_control(Renders(held_out), held_out, reader, 1)["encoders"]
    for driver, response in control["response"].items():
        assert response["response"] == pytest.approx(1, abs=0.02), driver
        assert response["cosine"] > 0.99
        assert response["response_read"] == pytest.approx(1, abs=0.05)
    for matrix in ("leakage_pictures", "leakage_readings"):
        assert max(max(row.values()) for row in control[matrix].values()) < 0.05


def test_a_mouth_that_opens_half_way_is_said_to(held_out: HeldOut, reader: FaceReader) -> None:
    lazy = Renders(held_out, mouth_share=0.5)
    response = evaluate_control(lazy, held_out, reader, 1)["exact"]["response"]
    assert 0.3 < response["mouth"]["response"] < 0.8
    assert response["pose"]["response"] > 0.95


def test_a_head_that_stays_does_not_respond(held_out: HeldOut, reader: FaceReader) -> None:
    control = evaluate_control(Renders(held_out, follows_pose=False), held_out, reader, 1)["exact"]
    assert control["response"]["pose"]["response"] == pytest.approx(0, abs=0.02)
