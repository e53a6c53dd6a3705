"""evaluation.md: the figures as tables, each under its definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.metrics.control import LEAST_CHANGE
from training.metrics.follow import READINGS, STILL
from training.metrics.held_out import DRIVERS
from training.metrics.rendered import MODES
from training.metrics.turned import columns_of

_RENDERED = """\
Held-out rendered people, 256 px; means over {frames} frames of {people} people; pictures rounded to 8 bits.

- **SSIM**: Gaussian window of 11 px, sigma 1.5, data range 255, mean over RGB and over the whole picture on
  black less 5 px at its border; **of the figure**: mean where the target's alpha is above one half.
- **PSNR**: peak 255, all RGB pixels of a picture, then the mean of the dB; **of the figure** as above.
- **landmark px**: mean distance of MediaPipe's 68 landmarks on the picture from the renderer's true ones;
  **tool**: the same on the exact target, so what the tool itself errs; **to reading**: picture against
  target, both read.
- **mouth L1, eyes L1**: mean absolute error in 1/255 in the box about the lips (6 px wider), and about brows
  and eyes (4 px wider).
"""
_CONTROL = f"""\
Somebody is driven by picture A of another person; then one driver goes to that person's picture B, which
differs in everything. {{control}} samples.

- **response**: projection of the change on the exact change in the driver's own region (pose: the figure;
  expression: box of brows and eyes; mouth: box of the lips); **cosine** of the two; **size**: mean of
  |change| over mean of |exact change|, which the first pilots called response. Samples whose exact change is
  below {LEAST_CHANGE:.0f}/255 are left out.
- **response, read**: the same projection of MediaPipe's readings (head angles; the factor's blendshapes).
- **leakage by pictures**: how far the column's factor stands off towards B before and after, as a share of
  its exact change from A to B: the picture's error in the factor's region, split in least squares into the
  row's exact change and the column's. Mean size of (after - before), over the row's response; chance likeness
  counts. **signed**: the mean with its sign.
- **leakage by readings**: length of (change - exact change) in the column's readings, over the length of
  their exact change when they are driven from A to B, over the row's response; the tool's noise counts.
"""
_TURNED = """\
Held-out people with their heads turned so far to either side, exact codes; given two portraits from the front
and two from the sides, or those from the front alone. Figures as above.
"""
_FILM = """\
A rendered person speaks for {seconds:.1f} s and drives another one through the engine (tracker, crop,
smoothing). **Flicker**: mean of |x[t-1] - 2 x[t] + x[t+1]| / 2 over the whole picture, in 1/255. *still*: one
frame of the driver under fresh camera noise (standard deviation 3/255) in every frame; *moving*: the film;
*moving_exact*: exact renders of it.
"""
_SYNC = """\
Correlation of the audio encoder's codes with the content encoder's codes of the mouth seen, at lags of -10 to
10 frames (40 ms each; positive: the mouth is late). **offset**: lag of the highest; **confidence**: highest
less median. Both are of the mean curve over the clips.
"""
_FOLLOW = """\
Pearson's correlation of MediaPipe's readings on the driver and on the avatar, over frames where both show a
face. A clip counts for a reading only where its driver moves it: standard deviation of at least {still}.
**Pooled** takes all frames of those clips together, so differences between people count; with **clip means
removed** they do not.
"""


def markdown(figures: Mapping[str, Any]) -> str:
    """The whole report. Sections that were not measured are absent."""
    parts = [f"# Evaluation of {figures['model']}", _facts(figures)]
    if "rendered" in figures:
        parts += ["## Nearness", _RENDERED.format(**figures["settings"]), _rendered(figures["rendered"])]
    if "control" in figures:
        parts += ["## Control and leakage", _CONTROL.format(**figures["settings"])]
        parts += [_control(f"Codes: {way}", values) for way, values in figures["control"].items()]
    if "beside" in figures:
        other = figures["beside"]
        parts += [
            _control(f"Codes of {other['model']}: {way}", values) for way, values in other["control"].items()
        ]
        parts += [_beside(figures["control"]["encoders"], other)]
    if "turned" in figures:
        headings = ["turned by, given", "SSIM", "SSIM of the figure", "PSNR", "PSNR of the figure"]
        parts += ["## Turned heads", _TURNED, table(headings, columns_of(figures["turned"]))]
    if "performance" in figures:
        parts += ["## A rendered film", _FILM.format(**figures["settings"])]
        parts += [_flat(figures["performance"]["flicker"]), _SYNC, _sync(figures["performance"]["sync"])]
    if "follow" in figures:
        still = ", ".join(f"{name} {value:g}" for name, value in STILL.items())
        parts += ["## Real drivers", _FOLLOW.format(still=still), _follow(figures["follow"])]
        parts += ["### Sync", _SYNC, _sync(figures["sync"])]
    return "\n\n".join(parts) + "\n"


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; floats with three significant digits, None and NaN as a dash."""
    lines = ["| " + " | ".join(headings) + " |", "|" + " --- |" * len(headings)]
    return "\n".join(lines + ["| " + " | ".join(map(_shown, row)) + " |" for row in rows])


def _shown(value: object) -> str:
    if value is None or value != value:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return str(value)


def _facts(figures: Mapping[str, Any]) -> str:
    return "\n".join(f"- {key}: {value}" for key, value in figures["facts"].items())


def _rendered(modes: Mapping[str, Mapping[str, float]]) -> str:
    names = {
        "ssim": "SSIM",
        "ssim_figure": "SSIM of the figure",
        "psnr_db": "PSNR",
        "psnr_figure_db": "PSNR of the figure",
        "landmark_px": "landmark px",
        "tool_landmark_px": "tool",
        "landmark_to_reading_px": "to reading",
        "mouth_l1": "mouth L1",
        "eyes_l1": "eyes L1",
        "face_found": "face found",
    }
    rows = [[mode, *(values[key] for key in names)] for mode, values in modes.items()]
    explained = "\n".join(f"- *{mode}*: {meaning}" for mode, meaning in MODES.items())
    drops = [1 - modes[mode]["ssim"] / modes["self"]["ssim"] for mode in ("cross", "calibrated")]
    costs = "Three drivers cost {:.1%} of the self-driven SSIM, calibrated ones {:.1%}.".format(*drops)
    return "\n\n".join((table(["codes", *names.values()], rows), explained, costs))


def _beside(ours: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Both models' responses and leakage through the encoders, a row for each driver."""
    theirs = other["control"]["encoders"]
    rows: list[list[object]] = []
    for title, values in (("this model", ours), (other["model"], theirs)):
        for driver in DRIVERS:
            response = values["response"][driver]
            leaks = values["leakage_pictures"][driver]
            cells = [leaks.get(factor) for factor in DRIVERS]
            rows.append([f"{title}, {driver} driven", response["response"], response["cosine"], *cells])
    headings = ["through the encoders", "response", "cosine", *(f"leakage to {d}" for d in DRIVERS)]
    return "### Side by side\n\n" + table(headings, rows)


def _control(title: str, values: Mapping[str, Any]) -> str:
    response = values["response"]
    columns = ("response", "cosine", "size", "response_read", "samples")
    headings = ["driver", "response", "cosine", "size", "response, read", "samples"]
    parts = [f"### {title}", table(headings, [[d, *(response[d][c] for c in columns)] for d in DRIVERS])]
    for key, title in (
        ("leakage_pictures", "leakage by pictures"),
        ("leakage_pictures_signed", "signed"),
        ("leakage_readings", "leakage by readings"),
    ):
        rows = [[f"{d} driven", *(values[key][d].get(factor) for factor in DRIVERS)] for d in DRIVERS]
        parts.append(table([title, *DRIVERS], rows))
    return "\n\n".join(parts)


def _flat(values: Mapping[str, float]) -> str:
    return table(["flicker", "1/255"], list(values.items()))


def _sync(values: Mapping[str, Mapping[str, Any]]) -> str:
    columns = ("offset_frames", "confidence", "correlation", "share_within_one_frame")
    rows = [[mouth, *(figures[c] for c in columns)] for mouth, figures in values.items()]
    return table(["mouth of", "offset (frames)", "confidence", "correlation", "clips within one frame"], rows)


def _follow(values: Mapping[str, Any]) -> str:
    rows: list[list[object]] = []
    for name, correlation in values["clips"].items():
        rows.append([name, values["face_found"][name], *(correlation[key] for key in READINGS)])
    rows.append(["clips that move it", "", *(values["moving_clips"][key] for key in READINGS)])
    for key, title in (
        ("pooled", "pooled"),
        ("pooled_clip_means_removed", "pooled, clip means removed"),
        ("by_sound_pooled", "mouth by sound, pooled"),
        ("by_sound_pooled_clip_means_removed", "mouth by sound, clip means removed"),
    ):
        found = values["face_found_in_all"] if key == "pooled" else ""
        rows.append([title, found, *(values[key][name] for name in READINGS)])
    return table(["clip", "face found", *READINGS], rows)
