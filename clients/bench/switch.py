"""`gcavt bench switch`: does the avatar jump, or a picture fail to come, when something is switched?

A server draws the avatar from two people and sends it to a WebRTC client, while sockets are routed from one
to the other and back, and gains, pose mode, presets and identities change. Everything is measured in the
pictures that the client receives: which periods brought no new one, and how far MediaPipe's landmarks move
from each picture to the next.

First both people move, as in use: what the stream does between the switches is its natural motion. Then both
are photos, the two of them furthest apart, so that whatever moves is the switch's doing.

With --simulated no server runs: the same switches of the same people, tick by tick, which no load disturbs.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.bench.headless import HeadlessClient
from clients.bench.jumps import (
    MEASURES,
    find_faces,
    largest,
    missing_pictures,
    motions,
    spread,
    within,
)
from clients.bench.processes import await_answer, free_port
from clients.bench.report import json_line, table
from engine.assets import face_landmarker_path
from engine.codes import SOCKETS
from engine.config import BUILT_IN_CLIP
from engine.errors import EngineError
from engine.face_tracker import FaceTracker
from engine.media_files import MediaFile, Mp4Writer, pictures_at_25_fps, read_sound
from engine.rtc.settings import offer_loopback_candidates

WINDOW_S: Final = 0.6
"""A switch is looked for from the first picture that shows it until this long after the answer."""
IDENTITY_WINDOW_S: Final = 1.0
"""Faces take longer to pass into each other."""
WARM_UP_S: Final = {"moving": 14.0, "still": 2.0}
"""The built-in clip is looked at once, and its codes are kept."""
TOLERANCE_S: Final = 0.001
"""RTP times are rounded."""
PHOTO_EVERY: Final = 5
"""Pictures of a film of which one may become a photo."""
STRIP_BEFORE, STRIP_AFTER = 5, 5
"""Pictures that are drawn about the largest step."""
NOTHING: Final = "nothing"
"""A request that changes nothing: what the other kinds are to be compared with."""
JUDGED: Final[Mapping[str, str]] = {
    "pose": "head",
    "expression": "eyes and brows",
    "mouth": "lips",
    "mouth by voice": "lips",
}
"""What one socket moves is judged by that part of the face, everything else by the whole head."""

Image = NDArray[np.uint8]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.add_argument("--switches", type=int, default=10, help="of each kind (default %(default)s)")
    parser.add_argument(
        "--every", type=float, default=1.6, help="seconds between two, about (default %(default)s)"
    )
    parser.add_argument("--clip", type=Path, default=BUILT_IN_CLIP, help="the first person, a video")
    parser.add_argument(
        "--other", type=Path, help="the second (default: the first, mirrored, from its middle)"
    )
    parser.add_argument("--model", default="lite", help="name or directory of a bundle (default lite)")
    parser.add_argument("--backend", default="openvino", help="default %(default)s")
    parser.add_argument("--fps", type=float, default=25.0, help="default %(default)g")
    parser.add_argument("--simulated", action="store_true", help="without a server, both people moving")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw every step of the face over time")
    parser.add_argument(
        "--strips", type=Path, metavar="DIR", help="the pictures about each kind's largest jump"
    )


def run(args: argparse.Namespace) -> int:
    offer_loopback_candidates()
    with tempfile.TemporaryDirectory(prefix="gcavt-switch-") as folder:
        try:
            other = args.other or _mirrored(args.clip, Path(folder) / "other.mp4")
            if args.simulated:
                return _simulate(args, other)
            with _server(args, Path(folder)) as url:
                film = {"kind": "file", "path": str(other.resolve())}
                photos = _photos(args.clip, other, Path(folder))
                show = asyncio.run(_play(args, url, film, photos))
        except (EngineError, OSError) as error:
            sys.stderr.write(f"gcavt bench switch: {error}\n")
            return 2
    steps = motions(show.pictures, find_faces(show.pictures))
    result = measured(show, steps, args.fps)
    _print_report(result)
    if args.strips:
        _draw_strips(args.strips, show, steps)
    if args.plot:
        _plot(args.plot, show, steps, result)
    print(json_line("switch", result))
    return 0


def _simulate(args: argparse.Namespace, other: Path) -> int:
    from clients.bench.simulated_switches import report, simulate  # which knows this script

    result = simulate(args.model, args.backend, (args.clip, other), args.switches, args.every)
    print(report(result))
    print(json_line("switch-simulated", result))
    return 0


# -- the show -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One request that switches something."""

    kind: str
    method: str
    path: str
    body: Mapping[str, object] | None = None


def window_s(kind: str) -> float:
    return IDENTITY_WINDOW_S if kind in ("identity", "preset") else WINDOW_S


@dataclass(frozen=True)
class Switch:
    """Times in seconds by the engine's clock."""

    act: str
    kind: str
    begun_s: float
    """Tick of the last picture that cannot show it."""
    until_s: float
    """Until when its effect is looked for."""


@dataclass
class Show:
    """What was received, and when what was switched."""

    pictures: list[Image] = field(default_factory=list)
    arrivals_s: list[float] = field(default_factory=list)
    media_times_s: list[float] = field(default_factory=list)
    ticks_s: list[float] = field(default_factory=list)
    """What the pictures were drawn for, by the engine's clock."""
    switches: list[Switch] = field(default_factory=list)
    acts_s: dict[str, tuple[float, float]] = field(default_factory=dict)

    def windows(self, act: str) -> dict[str, list[NDArray[np.int_]]]:
        """By kind, for each switch the numbers of the pictures drawn while its effect is looked for.

        The first is the first that can show it: the steps before it are those of whoever moved.
        """
        spans: dict[str, list[tuple[float, float]]] = {}
        for switch in self.switches:
            if switch.act == act:
                spans.setdefault(switch.kind, []).append((switch.begun_s + TOLERANCE_S, switch.until_s))
        return {kind: within(np.array(self.ticks_s), found) for kind, found in spans.items()}

    def of_act(self, act: str) -> NDArray[np.int_]:
        return within(np.array(self.ticks_s), [self.acts_s[act]])[0]


def script(
    rounds: int, people: tuple[str, str], names: Sequence[str], come_back: Mapping[str, object]
) -> Iterator[Step]:
    """Every kind once a round, always from what was set before to something else.

    people: the two sources; all starts on the first, with presets `first` and `second`. names: of identities
    other than the presets'. come_back: the description of the second source.
    """
    patch = ("PATCH", "")
    faces = cycle(names)
    for number in range(rounds):
        back, to = people if number % 2 == 0 else people[::-1]
        gain = 1.5 if number % 2 == 0 else 0.5  # the presets set all gains back to 1, the pose to absolute
        yield Step(NOTHING, *patch, {"crossfade_ms": 200})
        yield Step("pose", *patch, {"pose": to})
        yield Step("expression", *patch, {"expression": to})
        yield Step("mouth", *patch, {"mouth": to})
        if people[0] == "clip":
            yield Step("mouth by voice", *patch, {"mouth": f"{to}:audio"})
        yield Step("identity", *patch, {"identity": next(faces)})
        yield Step("gains", *patch, {"gains": {"pose": gain, "expression": gain, "mouth": 2 - gain}})
        yield Step("all to idle", *patch, dict.fromkeys(SOCKETS, "idle"))
        yield Step("all from idle", *patch, dict.fromkeys(SOCKETS, back))
        yield Step("pose mode", *patch, {"pose_mode": "relative"})
        yield Step("preset", "POST", f"/presets/{'second' if number % 2 == 0 else 'first'}")
        if number % 2 == 0:  # the preset has put everything on the second person
            yield Step("source leaves", "DELETE", f"/sources/{people[1]}")
            yield Step("source comes back", "PUT", f"/sources/{people[1]}", come_back)


async def _play(
    args: argparse.Namespace, url: str, film: Mapping[str, object], photos: Sequence[Mapping[str, object]]
) -> Show:
    show = Show()
    async with HeadlessClient(url, keep=show.pictures) as client:
        names = await client.identities()
        rng = np.random.default_rng(0)
        for act, people, come_back in (
            ("moving", ("clip", "film"), film),
            ("still", ("photo1", "photo2"), photos[1]),
        ):
            if act == "still":
                await client.call("PUT", "/sources/photo1", photos[0])
            await client.call("PUT", f"/sources/{people[1]}", come_back)
            for preset, name, person in (("second", names[1], people[1]), ("first", names[0], people[0])):
                await client.patch(identity=name, pose_mode="absolute", **dict.fromkeys(SOCKETS, person))
                await client.call("PUT", f"/presets/{preset}")
            if act == "moving":
                await client.watch()
            await asyncio.sleep(WARM_UP_S[act])
            start_s = await _engine_time_s(client)
            for step in script(args.switches, people, names[2:], come_back):
                # never in step with the films: some of their moments would be met by switches only
                await asyncio.sleep(args.every * rng.uniform(0.7, 1.3))
                before = await client.state()
                after = await client.call(step.method, step.path, step.body)
                show.switches.append(_switch(act, step, before, after or await client.state(), args.fps))
            await asyncio.sleep(args.every)
            show.acts_s[act] = start_s, await _engine_time_s(client)
        received = len(client.seen.arrivals_s)
        show.arrivals_s = client.seen.arrivals_s[:received]
        show.media_times_s = client.seen.media_times_s[:received]
        show.ticks_s = await client.ticks_s(show.media_times_s)
    del show.pictures[received:]
    return show


def _switch(act: str, step: Step, before: Mapping[str, Any], after: Mapping[str, Any], fps: float) -> Switch:
    """From the session's state before the request and after it.

    A PATCH takes effect just before its answer, an identity with the next picture that is drawn, and that
    may be one begun before. When a source leaves is not known as exactly.
    """
    begun_ms = after["tick_ms"] if step.method in ("PATCH", "POST") else before["tick_ms"]
    if step.kind in ("identity", "preset"):
        begun_ms -= 1000 / fps
    return Switch(act, step.kind, begun_ms / 1000, after["now_ms"] / 1000 + window_s(step.kind))


async def _engine_time_s(client: HeadlessClient) -> float:
    time_ms: float = (await client.state())["now_ms"]
    return time_ms / 1000


@contextmanager
def _server(args: argparse.Namespace, folder: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "engine", "--port", str(port), "--model", args.model]
    command += ["--backend", args.backend, "--clip", str(args.clip), "--fps", str(args.fps)]
    command += ["--allow-local-sources", "--presets", str(folder / "presets")]
    process = subprocess.Popen(command)
    url = f"http://127.0.0.1:{port}"
    try:
        await_answer(f"{url}/healthz", process)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def _mirrored(clip: Path, path: Path) -> Path:
    """Another person: the same clip, mirrored, from its middle on."""
    media = MediaFile.probe(clip)
    pictures = [np.ascontiguousarray(picture[:, ::-1]) for picture in pictures_at_25_fps(media)]
    sound = read_sound(media)
    height, width = pictures[0].shape[:2]
    start = len(pictures) // 2
    with Mp4Writer(path, width, height, len(sound.samples)) as writer:
        for index in [*range(start, len(pictures)), *range(start)]:
            writer.write(pictures[index], sound.of_frame(index))
    return path


def _photos(first: Path, second: Path, folder: Path) -> list[Mapping[str, object]]:
    """The pictures of two films in which the faces are furthest apart, as descriptions of sources."""
    films = [list(pictures_at_25_fps(MediaFile.probe(path)))[::PHOTO_EVERY] for path in (first, second)]
    faces = []
    with FaceTracker(face_landmarker_path(), reads_shapes=False) as tracker:
        for film in films:
            found = [(picture, tracker.find_in_photo(picture)) for picture in film]
            faces.append(
                [(picture, _shape(face.landmarks_478)) for picture, face in found if face is not None]
            )
    apart = [[np.abs(one - other).mean() for _, other in faces[1]] for _, one in faces[0]]
    chosen = np.unravel_index(int(np.argmax(apart)), (len(faces[0]), len(faces[1])))
    photos: list[Mapping[str, object]] = []
    for number, (of_film, index) in enumerate(zip(faces, chosen, strict=True), 1):
        path = folder / f"photo{number}.png"
        cv2.imwrite(str(path), cv2.cvtColor(of_film[index][0], cv2.COLOR_RGB2BGR))
        photos.append({"kind": "still", "path": str(path)})
    return photos


def _shape(landmarks_478: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without place and size."""
    centred = landmarks_478 - landmarks_478.mean(0)
    return np.asarray(centred / np.abs(centred).mean(), np.float32)


# -- what it says -------------------------------------------------------------------------------------------

Steps = dict[str, NDArray[np.float64]]


def measured(show: Show, steps: Steps, fps: float) -> dict[str, Any]:
    """What is natural, and for each kind of switch its steps, the periods without a picture, the longest gap.

    steps: of `jumps.motions`. Natural is what lies in no window of a switch while both people move.
    """
    times_s = np.array(show.arrivals_s)
    is_repeated = np.concatenate([[False], steps["pixels"] == 0])
    missing = {act: missing_pictures(np.array(show.media_times_s), is_repeated, fps) for act in show.acts_s}
    missing["still"] = missing_pictures(np.array(show.media_times_s), np.zeros_like(is_repeated), fps)
    gaps_ms = np.diff(times_s, prepend=times_s[0]) * 1000
    switching = np.concatenate(
        [window for kind, windows in show.windows("moving").items() if kind != NOTHING for window in windows]
    )
    natural = np.setdiff1d(show.of_act("moving"), switching)
    spreads = {measure: spread(values[natural - 1]) for measure, values in steps.items()}

    def delivered(act: str, pictures: NDArray[np.int_]) -> dict[str, Any]:
        longest_ms = round(float(gaps_ms[pictures].max()), 1)
        lost = int(missing[act][pictures].sum())
        return {"pictures": len(pictures), "missing": lost, "longest_gap_ms": longest_ms}

    kinds: dict[str, dict[str, Any]] = {}
    for act in show.acts_s:
        for kind, windows in show.windows(act).items():
            judged_by = JUDGED.get(kind, "head")
            pictures = np.concatenate(windows)
            p99 = spreads[judged_by]["p99"]
            found = {measure: round(largest(values, windows), 3) for measure, values in steps.items()}
            kinds.setdefault(kind, {"judged_by": judged_by})[act] = {
                "switches": len(windows),
                "largest": found,
                "of_natural_p99": round(found[judged_by] / p99, 2),
                "over_natural_p99_percent": round(
                    100 * float(np.mean(steps[judged_by][pictures - 1] > p99)), 1
                ),
                **delivered(act, pictures),
            }
    acts = {}
    for act, (start_s, end_s) in show.acts_s.items():
        acts[act] = {"fps": round(len(show.of_act(act)) / (end_s - start_s), 2)}
    return {
        "natural": spreads | delivered("moving", natural),
        "kinds": kinds,
        "acts": acts,
        "without_face": int(np.isnan(steps["head"]).sum()),
    }


def _print_report(result: Mapping[str, Any]) -> None:
    natural = result["natural"]
    rows: list[list[object]] = [
        [f"natural, {name}", "", *(natural[measure][name] for measure in MEASURES), "", "", "", ""]
        for name in ("p50", "p99", "largest")
    ]
    rows[-1][-2:] = [natural["missing"], natural["longest_gap_ms"]]
    for kind, found in result["kinds"].items():
        moving, still = found["moving"], found.get("still")
        cells: list[object] = [""] * (len(MEASURES) + 1)
        if still:
            marks = {found["judged_by"]: " *"}
            cells = [f"{still['largest'][measure]}{marks.get(measure, '')}" for measure in MEASURES]
            cells.append(still["of_natural_p99"])
        acts = (moving, still) if still else (moving,)
        delivered = (sum(act["missing"] for act in acts), max(act["longest_gap_ms"] for act in acts))
        rows.append([kind, moving["switches"], *cells, moving["over_natural_p99_percent"], *delivered])
    headings = ["largest step", "times", *MEASURES, "* / p99", "moving: * over p99, %", "missing", "gap, ms"]
    print(table(headings, rows))
    print(
        "\nSteps in % of the face's height, pixels of 255. Of the switches: between photos, so that nothing"
    )
    print(
        "else moves; *: what that kind is judged by. The last three columns: while both people move (1 % of"
    )
    print(f"natural steps are over p99), {result['acts']['moving']['fps']} pictures a second.\n")


def _draw_strips(folder: Path, show: Show, steps: Steps) -> None:
    """A picture for each kind: what was received about its largest step, which leads to the sixth."""
    folder.mkdir(parents=True, exist_ok=True)
    for act in show.acts_s:
        for kind, windows in show.windows(act).items():
            numbers = np.concatenate(windows)
            step = steps[JUDGED.get(kind, "head")][np.maximum(numbers - 1, 0)]
            worst = int(numbers[np.nanargmax(step)])
            shown = show.pictures[max(0, worst - STRIP_BEFORE) : worst + STRIP_AFTER]
            strip = np.hstack([cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420) for planes in shown])
            cv2.imwrite(str(folder / f"{act}-{kind.replace(' ', '-')}.png"), strip)


def _plot(path: Path, show: Show, steps: Steps, result: Mapping[str, Any]) -> None:
    from matplotlib.figure import Figure  # only this option needs it, and it takes a second to import

    figure = Figure(figsize=(11, 2 * len(MEASURES)), layout="constrained")
    figure.suptitle("Steps from picture to picture about each switch; line: natural p99")
    kinds = list(result["kinds"])
    for axis, measure in zip(figure.subplots(len(MEASURES), 1, sharex=True), MEASURES, strict=True):
        for act, colour, shift in (("moving", "tab:gray", -0.2), ("still", "tab:blue", 0.2)):
            places: list[float] = []
            values: list[float] = []
            for kind, windows in show.windows(act).items():
                for window in windows:
                    places += list(kinds.index(kind) + shift + np.linspace(-0.17, 0.17, len(window)))
                    values += list(steps[measure][window - 1])
            axis.plot(places, values, ".", color=colour, markersize=3, label=act)
        axis.axhline(result["natural"][measure]["p99"], color="0.3", linewidth=1)
        axis.set_ylabel(measure)
        axis.grid(alpha=0.3)
    axis.legend(loc="upper right")
    axis.set_xticks(range(len(kinds)), kinds, rotation=20, ha="right")
    figure.savefig(path, dpi=110)
