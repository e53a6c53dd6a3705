"""Pictures of several sessions through one real backend: OpenVINO, ONNX Runtime and PyTorch on the CPU."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.backends.abilities import Picture, draw_together, padded, preferred_batch, run_together
from engine.backends.backend import CPU_BACKENDS, Backend, Tensors, open_backend
from engine.batching import Batcher, Seat
from engine.bundle import Bundle
from engine.clock import MediaClock
from engine.errors import GpuMemoryError
from engine.puppeteer import Puppeteer
from tests.bundles import TinyBundles, tiny_config
from trt_build.specs import engine_specs
from trt_build.verify import sample_inputs

SPEC = engine_specs(tiny_config("edit_repose"))["generator"]
CLOCK = MediaClock()


EXACT = {"openvino": "openvino-fp32"}
"""In bf16 OpenVINO rounds otherwise in other batches, and random weights make much of that."""


def of_session(number: int) -> Tensors:
    """What one session gives to the generator: an identity and codes of its own."""
    return sample_inputs(SPEC, 1, seed=number)


@pytest.fixture(scope="module", params=[EXACT.get(name, name) for name in CPU_BACKENDS])
def backend(request: pytest.FixtureRequest, tiny_bundles: TinyBundles) -> Iterator[Backend]:
    opened = open_backend(request.param, tiny_bundles.path("edit_repose"), threads=1)
    yield opened
    opened.close()


@dataclass
class Watched:
    """A backend of which every run is noted, and which may be told to fail or to be slow."""

    backend: Backend
    before: Callable[[int], None] = lambda pictures: None

    def __post_init__(self) -> None:
        self.name, self.provider = self.backend.name, self.backend.provider
        self.batches: list[int] = []
        self.is_closed = False

    def run(self, network: str, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        pictures = len(inputs["identity_code"])
        self.batches.append(pictures)
        self.before(pictures)
        return self.backend.run(network, inputs)

    def close(self) -> None:
        self.is_closed = True


def draw_at_once(batcher: Batcher, requests: Sequence[Tensors]) -> list[Picture | BaseException]:
    """One thread and one seat per request; what was drawn or raised."""

    def draw(inputs: Tensors) -> Picture | BaseException:
        seat = Seat(batcher, CLOCK)
        try:
            return seat.draw_together([inputs])[0]
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(requests)) as threads:
        return list(threads.map(draw, requests))


class Blocked:
    """Holds the first run until all others wait, so that they make one batch."""

    def __init__(self) -> None:
        self.may_go = threading.Event()
        self.has_begun = threading.Event()

    def __call__(self, pictures: int) -> None:
        if not self.has_begun.is_set():
            self.has_begun.set()
            self.may_go.wait(30)


def drawn_in_one_batch(watched: Watched, requests: Sequence[Tensors], largest: int = 8) -> list[object]:
    """The answers to `requests`, which all came while another picture was drawn."""
    blocked, then = Blocked(), watched.before

    def before(pictures: int) -> None:
        blocked(pictures)
        then(pictures)

    watched.before = before
    batcher = Batcher(watched, largest, CLOCK)
    with ThreadPoolExecutor(len(requests) + 1) as threads:
        first = threads.submit(draw_at_once, batcher, [of_session(99)])
        assert blocked.has_begun.wait(30)
        seats = [Seat(batcher, CLOCK) for _ in requests]
        answers = [
            threads.submit(seat.draw_together, [inputs]) for seat, inputs in zip(seats, requests, strict=True)
        ]
        while len(batcher._waiting) < len(requests):
            time.sleep(0.001)
        blocked.may_go.set()
        first.result()
        results: list[object] = [answer.exception() or answer.result()[0] for answer in answers]
    batcher.close()
    return results


def assert_same(pictures: Sequence[object], alone: Sequence[Picture]) -> None:
    """Within one step of 255: a batch may be summed up in another order."""
    for drawn, expected in zip(pictures, alone, strict=True):
        assert isinstance(drawn, Picture)
        for found, wanted in zip(drawn, expected, strict=True):
            assert np.abs(found.astype(int) - wanted).max() <= 1


def test_each_session_gets_its_own_picture_out_of_a_batch(backend: Backend) -> None:
    requests = [of_session(number) for number in range(3)]
    alone = [draw_together(backend, [inputs])[0] for inputs in requests]
    assert np.abs(alone[0].image_HWC.astype(int) - alone[1].image_HWC).max() > 10
    watched = Watched(backend)
    assert_same(drawn_in_one_batch(watched, requests), alone)
    assert watched.batches == [1, padded(3)]


def test_a_session_whose_tensors_are_wrong_fails_alone(backend: Backend) -> None:
    requests = [of_session(0), dict(of_session(1)), of_session(2)]
    del requests[1]["pose_code"]  # type: ignore[attr-defined]
    alone = [draw_together(backend, [requests[number]])[0] for number in (0, 2)]
    answers = drawn_in_one_batch(Watched(backend), requests)
    assert isinstance(answers[1], KeyError)
    assert_same([answers[0], answers[2]], alone)


def test_a_batch_without_room_is_drawn_in_smaller_ones_from_then_on(backend: Backend) -> None:
    def before(pictures: int) -> None:
        if pictures > 2:
            raise GpuMemoryError("The GPU is out of memory.")

    requests = [of_session(number) for number in range(4)]
    alone = [draw_together(backend, [inputs])[0] for inputs in requests]
    watched = Watched(backend, before)
    assert_same(drawn_in_one_batch(watched, requests), alone)
    assert watched.batches == [1, 4, 1, 1, 1, 1]


def test_no_batch_is_larger_than_was_asked_for(backend: Backend) -> None:
    watched = Watched(backend)
    drawn_in_one_batch(watched, [of_session(number) for number in range(3)], largest=2)
    assert max(watched.batches) == 2


def test_warming_up_runs_every_size_and_leaves_no_figures(backend: Backend) -> None:
    watched = Watched(backend)
    batcher = Batcher(watched, 4, CLOCK)
    batcher.warm_up(of_session(0), 3)
    assert sorted(set(watched.batches)) == [1, 2, 4]
    assert batcher.figures().runs == {}
    draw_at_once(batcher, [of_session(0)])
    figures = batcher.figures()
    assert figures.runs == {1: 1}
    assert figures.occupancy == 1 and 0 < figures.busy_share < 1
    batcher.close()
    assert watched.is_closed


def test_after_closing_nobody_draws(backend: Backend) -> None:
    batcher = Batcher(Watched(backend), 4, CLOCK)
    batcher.close()
    with pytest.raises(RuntimeError, match="closed"):
        batcher.draw("a", of_session(0), 0)


def test_a_batch_is_split_as_it_was_stacked(backend: Backend) -> None:
    requests = [of_session(number) for number in range(5)]
    together = run_together(backend, "generator", requests)
    for inputs, results in zip(requests, together, strict=True):
        for name, array in backend.run("generator", inputs).items():
            assert results[name].shape == array.shape
            np.testing.assert_allclose(results[name], array, atol=1e-3)


def test_cpus_prefer_no_batches(backend: Backend) -> None:
    assert preferred_batch(backend) == 1


def test_shipped_identities_drawn_together_look_as_they_do_alone() -> None:
    """The real thing: lite, with the state of three identities of its bank."""
    bundle = Bundle.open("lite")
    backend = open_backend("openvino", bundle.directory, threads=1)
    puppeteer = Puppeteer(bundle, backend)
    requests = []
    for index, name in enumerate(bundle.identity_names()[:3]):
        identity = puppeteer.identity_from_bank(name)
        codes = puppeteer.idle_codes(index / 3, identity)
        requests.append(
            puppeteer.generator_inputs(identity, codes.pose_code, codes.expression_code, codes.content_code)
        )
    alone = [draw_together(backend, [inputs])[0] for inputs in requests]
    watched = Watched(backend)
    assert_same(drawn_in_one_batch(watched, requests), alone)
    assert watched.batches == [1, 4]
    backend.close()
