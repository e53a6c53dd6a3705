"""The truth of a clip as Parquet: one row per frame, readable without this program.

Columns, T rows:
    frame, time_s                     number and middle of the frame
    pitch_deg, yaw_deg, roll_deg, x, y, z     head pose; translation in head units
    browDownLeft ... tongueOut        the 52 coefficients as drawn
    phoneme, viseme, word, emotion    what is said and felt; "" where nothing is
    expression_52, mouth_52           the coefficients' two parts, in the order of the 52 columns
    visemes_15                        weights, in the order of the metadata's "visemes"
    landmarks_68, landmarks_478       x0, y0, x1, y1 ... in pixels; iBUG's and MediaPipe's numbering
    visible_68, visible_478           which of them are in the picture with nothing in front
The file's metadata holds, as JSON under "gcavt": format, fps, size_px, seed, text, voice, visemes, timed
phonemes and words, and the settings of the clip.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from gcavt.code_space import COEFFICIENTS
from gcavt.preprocessing import MESH_OF_IBUG_68
from training.synthetic.motion import FPS, Performance
from training.synthetic.visemes import VISEME_NAMES, TimedSymbol

METADATA_KEY = b"gcavt"
FORMAT = 1
LANDMARK_STEP_PX = 1 / 64
"""Landmarks are rounded to this, which halves the file."""
POSE_NAMES = ("pitch_deg", "yaw_deg", "roll_deg", "x", "y", "z")


def write_truth(
    path: Path,
    performance: Performance,
    landmarks_T478_2: NDArray[np.float32],
    visible_T478: NDArray[np.bool_],
    facts: Mapping[str, Any],
) -> None:
    """Write one clip's table; `facts` joins its metadata and must be JSON."""
    about = {
        "format": FORMAT,
        "fps": FPS,
        "text": performance.text,
        "visemes": VISEME_NAMES,
        "phonemes": performance.phonemes,
        "words": performance.words,
        **facts,
    }
    table = pyarrow.table(_columns(performance, landmarks_T478_2, visible_T478))
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(about, ensure_ascii=False).encode()})
    pyarrow.parquet.write_table(table, path, compression="zstd")


def read_facts(path: Path) -> dict[str, Any]:
    """The metadata of a clip's table. Raises ValueError if `path` is none."""
    try:
        metadata = pyarrow.parquet.read_schema(path).metadata
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is not a Parquet file") from error
    if not metadata or METADATA_KEY not in metadata:
        raise ValueError(f"{path} holds no clip's truth")
    facts: dict[str, Any] = json.loads(metadata[METADATA_KEY])
    return facts


def symbols_per_frame(timed: Sequence[TimedSymbol], frame_count: int) -> list[str]:
    """The symbol at the middle of every frame, "" where there is none."""
    symbols = [""] * frame_count
    for symbol, start_s, end_s in timed:
        first = max(0, int(np.ceil(start_s * FPS - 0.5)))
        for t in range(first, min(frame_count, int(np.ceil(end_s * FPS - 0.5)))):
            symbols[t] = symbol
    return symbols


def _columns(
    performance: Performance, landmarks: NDArray[np.float32], visible: NDArray[np.bool_]
) -> dict[str, Any]:
    count = performance.frame_count
    if landmarks.shape != (count, 478, 2) or visible.shape != (count, 478):
        raise ValueError(
            f"landmarks and visibility must be ({count}, 478, 2) and ({count}, 478), "
            f"got {landmarks.shape} and {visible.shape}"
        )
    rounded = np.round(landmarks / LANDMARK_STEP_PX).astype(np.float32) * np.float32(LANDMARK_STEP_PX)
    columns: dict[str, Any] = {
        "frame": np.arange(count, dtype=np.int32),
        "time_s": ((np.arange(count) + 0.5) / FPS).astype(np.float32),
    }
    columns |= dict(zip(POSE_NAMES, performance.pose_T6.T.copy(), strict=True))
    columns |= dict(zip(COEFFICIENTS, performance.weights_T52.T.copy(), strict=True))
    columns["phoneme"] = symbols_per_frame(performance.phonemes, count)
    columns["viseme"] = [VISEME_NAMES[k] for k in performance.visemes_T15.argmax(1)]
    columns["word"] = symbols_per_frame(performance.words, count)
    columns["emotion"] = list(performance.emotions_T)
    for name, array in (
        ("expression_52", performance.expression_T52),
        ("mouth_52", performance.mouth_T52),
        ("visemes_15", performance.visemes_T15),
        ("landmarks_68", rounded[:, MESH_OF_IBUG_68]),
        ("landmarks_478", rounded),
        ("visible_68", visible[:, MESH_OF_IBUG_68]),
        ("visible_478", visible),
    ):
        flat = np.ascontiguousarray(array).reshape(count, -1)
        columns[name] = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(flat.ravel()), flat.shape[1])
    return columns
