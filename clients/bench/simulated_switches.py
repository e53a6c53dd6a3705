"""`gcavt bench switch --simulated`: what the puppet makes of two people's codes, tick by tick.

No clock, no server and no other process has a part in it, so that every step of the face is the switch's or
the sources' own, and a second run gives the same pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clients.bench.jumps import MEASURES, as_rgb, brightness_change, largest, motion, spread
from clients.bench.report import table
from clients.bench.switch import NOTHING, Step, script, window_s
from engine.assets import face_landmarker_path
from engine.backends.backend import open_backend
from engine.bundle import Bundle
from engine.clock import NS_PER_MS, NS_PER_S, MediaClock
from engine.codes import SOCKETS, Code, Socket
from engine.config import PerformanceConfig
from engine.drivers import FaceDriver, VoiceDriver
from engine.face_tracker import FaceTracker
from engine.media import AudioChunk, VideoFrame
from engine.media_files import FPS, SOUND_RATE, MediaFile, pictures_at_25_fps, read_sound
from engine.metrics import StageTimes
from engine.patch_bay import PatchBay, Route
from engine.puppet import Puppet
from engine.puppeteer import IdentityState, Puppeteer
from engine.reader import Reading
from engine.socket_fade import Spoken

PERIOD_NS: Final = NS_PER_S // FPS
SLIPS: Final = 0.01
"""Of the pictures of a source that does not set the pace: one is late for its tick and lost at the next."""
CHUNK_SAMPLES: Final = SOUND_RATE // 50
PEOPLE: Final = ("clip", "film")
SETTLING: Final = 3 * FPS
"""Pictures until a scene has faded in."""
SWITCHES, BETWEEN = "all switches", "between switches"


class TickClock(MediaClock):
    """Stands still until it is moved on."""

    def __init__(self) -> None:
        self.time_ns = 0

    def now_ns(self) -> int:
        return self.time_ns


@dataclass(frozen=True)
class Film:
    """What was read from one person's film, a code for every picture."""

    seen: Sequence[Mapping[Socket, Code]]
    """Empty where no face was found."""
    heard: Sequence[Code | None]
    """What the mouth does by the voice, None in silence."""


def read_film(path: Path, puppeteer: Puppeteer) -> Film:
    """As a live performance reads it."""
    media, clock = MediaFile.probe(path), TickClock()
    stages, config = StageTimes(clock), PerformanceConfig()
    seen: list[Mapping[Socket, Code]] = []
    heard: list[Code | None] = []
    sound, voice = read_sound(media), VoiceDriver(config.look_ahead_ms)
    with FaceTracker(face_landmarker_path(), reads_shapes=False) as tracker:
        driver = FaceDriver(tracker, FPS, every=config.look_every)
        for index, picture in enumerate(pictures_at_25_fps(media)):
            time_ns = index * PERIOD_NS
            seen.append(driver.read(puppeteer, VideoFrame(picture, time_ns), frozenset(SOCKETS), stages))
            samples = sound.of_frame(index).mean(0)
            chunks = [
                AudioChunk(
                    samples[start : start + CHUNK_SAMPLES], SOUND_RATE, time_ns + number * PERIOD_NS // 2
                )
                for number, start in enumerate(range(0, len(samples), CHUNK_SAMPLES))
            ]
            said = voice.hear(puppeteer, chunks, stages)
            heard.append(None if said is None else said[0])
    return Film(seen, heard)


@dataclass
class Scene:
    """Two people, of whom each tick's routes and identity may be changed between two pictures."""

    puppeteer: Puppeteer
    films: Mapping[str, Film]
    identity: IdentityState
    rng: np.random.Generator
    bay: PatchBay = field(default_factory=PatchBay)
    absent: set[str] = field(default_factory=set)
    """Sources that have been taken away."""

    def __post_init__(self) -> None:
        self.tick = 0
        self._clock = TickClock()
        self.puppet = Puppet(PerformanceConfig(), self._clock, StageTimes(self._clock))
        self._places = {name: int(self.rng.integers(len(film.seen))) for name, film in self.films.items()}
        self._takes = dict.fromkeys(self.films, 0)

    def patch(self, **changes: object) -> None:
        carried = {name: {"video": True, "audio": True} for name in self.films}
        self.bay = self.bay.patched(changes, carried)

    def come_back(self, name: str) -> None:
        """A film that is connected anew starts over."""
        self.absent.discard(name)
        self._places[name], self._takes[name] = 0, self._takes[name] + 1

    def picture(self) -> NDArray[np.uint8]:
        """The next one, I420."""
        time_ns = self._clock.time_ns = self.tick * PERIOD_NS
        reading = Reading(time_ns, self.bay, self._spoken(), time_ns, None)
        self.tick += 1
        return self.puppet.render(self.puppeteer, self.identity, reading).yuv420p

    def _spoken(self) -> dict[Socket, dict[Route, Spoken]]:
        spoken: dict[Socket, dict[Route, Spoken]] = {socket: {} for socket in SOCKETS}
        for name, film in self.films.items():
            if name in self.absent:
                continue
            self._places[name] += 1
            if self._places[name] == len(film.seen):
                self._places[name], self._takes[name] = 0, self._takes[name] + 1
            place, take = self._places[name], self._takes[name]
            heard, sound = film.heard[place], Route(name, is_sound=True)
            if heard is not None and self.bay.mouth == sound:
                spoken["mouth"][sound] = Spoken(heard, ("heard", take))
            if self._is_late(name):
                continue
            for socket in self.bay.sockets_fed_by(name) & film.seen[place].keys():
                spoken[socket][Route(name)] = Spoken(film.seen[place][socket], take)
        return spoken

    def _is_late(self, name: str) -> bool:
        """Whether this tick has to do without its picture; then the next has two, and takes the newer."""
        return name != self.bay.leading.source and bool(self.rng.random() < SLIPS)


class StepMeter:
    """Measures of `jumps` for picture after picture, none of which is kept."""

    def __init__(self) -> None:
        self.count = 0
        self._tracker = FaceTracker(face_landmarker_path(), reads_shapes=False)
        self._last: tuple[NDArray[np.uint8], NDArray[np.float32] | None] | None = None
        self._steps: list[tuple[float, ...]] = []

    def add(self, planes: NDArray[np.uint8]) -> None:
        """An I420 picture."""
        face = self._tracker.track(as_rgb(planes), self.count * PERIOD_NS // NS_PER_MS)
        points = None if face is None else face.landmarks_478
        if self._last is not None:
            self._steps.append((*motion(self._last[1], points), brightness_change(self._last[0], planes)))
        self._last = planes, points
        self.count += 1

    def steps(self) -> dict[str, NDArray[np.float64]]:
        """By measure: (pictures - 1,), as of `jumps.motions`."""
        self._tracker.close()
        return dict(
            zip(MEASURES, np.array(self._steps, np.float64).reshape(-1, len(MEASURES)).T, strict=True)
        )


def simulate(
    model: str, backend: str, paths: tuple[Path, Path], rounds: int, every_s: float
) -> dict[str, Any]:
    """What is natural of two people's films, and the steps of every kind of switch in shares of that.

    Raises BundleError, BackendMissingError and BadMediaError.
    """
    bundle = Bundle.open(model)
    opened = open_backend(backend, bundle.directory, threads=1)
    puppeteer = Puppeteer(bundle, opened)
    films = {name: read_film(path, puppeteer) for name, path in zip(PEOPLE, paths, strict=True)}
    faces = [puppeteer.identity_from_bank(name) for name in bundle.identity_names()]
    natural = _natural_steps(puppeteer, films, faces)
    steps, windows = _switched_steps(puppeteer, films, faces, rounds, every_s)
    opened.close()
    return summary(natural, steps, windows)


def _natural_steps(
    puppeteer: Puppeteer, films: Mapping[str, Film], faces: Sequence[IdentityState]
) -> dict[str, NDArray[np.float64]]:
    """For each face one whole loop of a film, of one after the other in turn, nothing being switched."""
    runs = []
    for face, (name, film) in zip(faces, cycle(films.items()), strict=False):
        scene, meter = Scene(puppeteer, films, face, np.random.default_rng(0)), StepMeter()
        scene.patch(**dict.fromkeys(SOCKETS, name))
        for _ in range(SETTLING):
            scene.picture()
        for _ in range(len(film.seen)):
            meter.add(scene.picture())
        runs.append(meter.steps())
    return {measure: np.concatenate([run[measure] for run in runs]) for measure in MEASURES}


def _switched_steps(
    puppeteer: Puppeteer,
    films: Mapping[str, Film],
    faces: Sequence[IdentityState],
    rounds: int,
    every_s: float,
) -> tuple[dict[str, NDArray[np.float64]], dict[str, list[NDArray[np.int_]]]]:
    """Every step, and by kind of switch the numbers of the pictures in which its effect is looked for."""
    rng = np.random.default_rng(0)
    scene, meter = Scene(puppeteer, films, faces[0], rng), StepMeter()
    scene.patch(**dict.fromkeys(SOCKETS, PEOPLE[0]))
    by_name = {face.name: face for face in faces}
    presets = dict(zip(("first", "second"), faces, strict=False))
    windows: dict[str, list[NDArray[np.int_]]] = {}
    for _ in range(SETTLING):
        meter.add(scene.picture())
    for step in script(rounds, PEOPLE, [face.name for face in faces[2:]], {}):
        take_step(scene, step, by_name, presets)
        start = meter.count
        for _ in range(round(FPS * every_s * rng.uniform(0.7, 1.3))):
            meter.add(scene.picture())
        end = min(meter.count, start + round(FPS * window_s(step.kind)))
        windows.setdefault(step.kind, []).append(np.arange(start, end))
    return meter.steps(), windows


def take_step(
    scene: Scene, step: Step, faces: Mapping[str, IdentityState], presets: Mapping[str, IdentityState]
) -> None:
    """What the server would do on this request."""
    if step.method == "DELETE":
        scene.absent.add(PEOPLE[1])
    elif step.method == "PUT":
        scene.come_back(PEOPLE[1])
    elif step.method == "POST":
        name = step.path.rpartition("/")[2]
        scene.identity = presets[name]
        person = PEOPLE[0] if name == "first" else PEOPLE[1]
        scene.patch(pose_mode="absolute", gains=dict.fromkeys(SOCKETS, 1.0), **dict.fromkeys(SOCKETS, person))
    else:
        changes = dict(step.body or {})
        if "identity" in changes:
            scene.identity = faces[str(changes.pop("identity"))]
        scene.patch(**changes)


def summary(
    natural: Mapping[str, NDArray[np.float64]],
    steps: Mapping[str, NDArray[np.float64]],
    windows: Mapping[str, Sequence[NDArray[np.int_]]],
) -> dict[str, Any]:
    """By kind and measure the largest step in shares of the natural p99, and how many of 100 exceed that."""
    spreads = {measure: spread(values) for measure, values in natural.items()}
    everywhere = np.concatenate([window for found in windows.values() for window in found])
    kinds: dict[str, Sequence[NDArray[np.int_]]] = {
        **windows,
        SWITCHES: [window for kind, found in windows.items() if kind != NOTHING for window in found],
        BETWEEN: [np.setdiff1d(np.arange(1, len(steps[MEASURES[0]]) + 1), everywhere)],
    }
    result: dict[str, Any] = {}
    for kind, found in kinds.items():
        pictures = np.concatenate(found)
        result[kind] = {"switches": len(found), "pictures": len(pictures)}
        for measure in MEASURES:
            p99 = spreads[measure]["p99"]
            over = np.mean(steps[measure][pictures - 1] > p99)
            result[kind][measure] = {
                "largest_of_p99": round(largest(steps[measure], found) / p99, 2),
                "over_percent": round(100 * float(over), 2),
            }
    return {"natural": spreads, "kinds": result}


def report(result: Mapping[str, Any]) -> str:
    natural = ", ".join(f"{measure} {values['p99']}" for measure, values in result["natural"].items())
    rows = [
        [kind, found["switches"], found["pictures"]]
        + [f"{found[m]['largest_of_p99']:.2f}  ({found[m]['over_percent']:.1f} %)" for m in MEASURES]
        for kind, found in result["kinds"].items()
    ]
    return (
        f"{table(['largest step', 'times', 'pictures', *MEASURES], rows)}\n\n"
        "In shares of the p99 of the same two people's motion without any switch; in brackets how many\n"
        f"steps exceed it. That p99: {natural} (% of the face's height; pixels of 255).\n"
    )
