"""Switches that a scene takes, on codes that are numbers, and what is said about their steps."""

from typing import cast

import numpy as np
import pytest

from clients.bench.jumps import MEASURES
from clients.bench.simulated_switches import BETWEEN, SWITCHES, Film, Scene, summary, take_step
from clients.bench.switch import Step
from engine.codes import SOCKETS
from engine.patch_bay import Route
from engine.puppeteer import IdentityState, Puppeteer


def face(name: str) -> IdentityState:
    return IdentityState(name=name, portrait_HWC=np.zeros((4, 4, 3), np.uint8), tensors={}, rest=None)


def scene() -> Scene:
    """Of two films of ten pictures, each of which says its own number, from 0 and from 100."""
    films = {
        name: Film(
            [dict.fromkeys(SOCKETS, np.full(1, start + number, np.float32)) for number in range(10)],
            [None] * 10,
        )
        for name, start in (("clip", 0), ("film", 100))
    }
    return Scene(cast(Puppeteer, None), films, face("lena"), np.random.default_rng(0))


def test_a_scene_plays_its_films_in_a_loop_each_loop_another_take() -> None:
    played = scene()
    played.patch(pose="film")
    said = [played._spoken()["pose"].get(Route("film")) for _ in range(20)]
    heard = [item for item in said if item is not None]
    assert len(heard) >= 18
    numbers = [int(item.code[0]) for item in heard]
    assert set(np.diff(numbers)) <= {1, -9}
    assert len({item.take for item in heard}) in (2, 3)


def test_a_scene_does_what_a_server_would_on_each_request() -> None:
    played, faces = scene(), {name: face(name) for name in ("lena", "zola")}
    take_step(played, Step("pose", "PATCH", "", {"pose": "film", "identity": "zola"}), faces, {})
    assert (str(played.bay.pose), played.identity.name) == ("film", "zola")
    take_step(played, Step("preset", "POST", "/presets/first"), faces, {"first": faces["lena"]})
    assert (str(played.bay.mouth), played.identity.name) == ("clip", "lena")
    take_step(played, Step("source leaves", "DELETE", "/sources/film"), faces, {})
    played.patch(pose="film")
    assert played._spoken()["pose"] == {}
    take_step(played, Step("source comes back", "PUT", "/sources/film", {}), faces, {})
    assert int(played._spoken()["pose"][Route("film")].code[0]) == 101


def test_steps_are_told_in_shares_of_what_is_natural() -> None:
    natural = dict.fromkeys(MEASURES, np.full(200, 2.0))
    steps = dict.fromkeys(MEASURES, np.array([0.5, 1.0, 3.0, 1.0, 4.0, 1.0]))
    windows = {"nothing": [np.array([2])], "pose": [np.array([3, 4])]}
    kinds = summary(natural, steps, windows)["kinds"]
    assert kinds["pose"]["head"] == kinds[SWITCHES]["head"] == {"largest_of_p99": 1.5, "over_percent": 50.0}
    assert kinds["nothing"]["lips"] == {"largest_of_p99": 0.5, "over_percent": 0.0}
    assert kinds[BETWEEN]["pixels"]["largest_of_p99"] == pytest.approx(2)
    assert kinds[BETWEEN]["pictures"] == 3
