"""Counterfactual triples on disk: reference, edited reference, target, all of one rendered identity.

The edited picture shows the target's expression and mouth at the reference's pose; the target shows them at a
new pose. No video offers such pairs; a renderer does. Arrays are memory-mapped, a folder per writer.

# R references, T triples; images RGB uint8; positions in px of the 256 px frame, first pixel centre at 0.5
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadMediaError
from training.datasets.placement import normal_depth, normal_pose

REFERENCE_ARRAYS: dict[str, tuple[tuple[int, ...], str]] = {
    "reference_image": ((256, 256, 3), "uint8"),
    "reference_second": ((256, 256, 3), "uint8"),
    "reference_pose": ((6,), "float32"),
    "reference_origin": ((4,), "int32"),
    "reference_landmarks": ((68, 2), "float32"),
    "side_images": ((2, 256, 256, 3), "uint8"),
    "side_poses": ((2, 6), "float32"),
    "side_depth": ((2, 128, 128), "float16"),
    "side_blend": ((2, 128, 128), "uint8"),
    "reference_identity": ((), "int32"),
}
TRIPLE_ARRAYS: dict[str, tuple[tuple[int, ...], str]] = {
    "reference": ((), "int32"),
    "edited": ((176, 144, 3), "uint8"),
    "flow": ((88, 72, 2), "float16"),
    "visible": ((88, 72), "uint8"),
    "target": ((256, 256, 3), "uint8"),
    "alpha": ((256, 256), "uint8"),
    "depth": ((128, 128), "float16"),
    "blend": ((128, 128), "uint8"),
    "pose": ((6,), "float32"),
    "expression": ((52,), "float32"),
    "mouth": ((52,), "float32"),
    "landmarks": ((68, 2), "float32"),
}
TRACKED = "tracked.npy"
NO_DEPTH = -9.0
"""Depth of a background pixel."""


@dataclass(frozen=True)
class TriplesPart:
    """One writer's arrays."""

    references: dict[str, NDArray[np.generic]]
    triples: dict[str, NDArray[np.generic]]


class Triples:
    """All parts of a data set as one; `reference` and `triple` gather rows by index arrays."""

    def __init__(self, folder: Path) -> None:
        done = sorted(folder.glob("part_*/done.json"))
        if not done:
            raise FileNotFoundError(f"no finished part in {folder}; gcavt train renders one if empty")
        self._parts = [_open_part(path.parent) for path in done]
        self.info = [json.loads(path.read_text()) for path in done]
        self._starts = np.cumsum([0] + [len(p.triples["reference"]) for p in self._parts])
        self._reference_starts = np.cumsum([0] + [len(p.references["reference_pose"]) for p in self._parts])
        self.reference_of = np.concatenate(
            [
                np.asarray(p.triples["reference"]) + s
                for p, s in zip(self._parts, self._reference_starts, strict=False)
            ]
        )
        self.identity_of_reference = np.concatenate(
            [np.asarray(p.references["reference_identity"]) for p in self._parts]
        )
        self.identity = self.identity_of_reference[self.reference_of]
        self._place_of = self._places()
        self._tracked = _of_all_parts(done, TRACKED)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def triple(self, key: str, index: NDArray[np.integer]) -> NDArray[np.generic]:
        """Rows of one of TRIPLE_ARRAYS."""
        return _gather([p.triples[key] for p in self._parts], self._starts, index)

    def reference(self, key: str, index: NDArray[np.integer]) -> NDArray[np.generic]:
        """Rows of one of REFERENCE_ARRAYS, by reference index (see `reference_of`)."""
        return _gather([p.references[key] for p in self._parts], self._reference_starts, index)

    def tracked_landmarks(self, index: NDArray[np.integer]) -> NDArray[np.float32] | None:
        """(B, 68, 2) what the face tracker reads in the targets, in pixels whose centres are whole numbers.

        NaN where it finds no face; None for a data set that it has not read yet (`training.prepare.track`).
        """
        if self._tracked is None:
            return None
        return np.asarray(_gather(self._tracked, self._starts, index), np.float32)

    def place(self, identities: NDArray[np.integer]) -> NDArray[np.float32]:
        """Translation (B, 3) that frames each person's neutral face; see `placement`."""
        return np.stack([self._place_of[int(name)] for name in identities])

    def pose(self, index: NDArray[np.integer]) -> NDArray[np.float32]:
        """Normal poses (B, 6) of targets, in degrees and head units."""
        return normal_pose(self.triple("pose", index), self.place(self.identity[index]))

    def reference_pose(self, index: NDArray[np.integer]) -> NDArray[np.float32]:
        """Normal poses (B, 6) of references, by reference index."""
        place = self.place(self.identity_of_reference[index])
        return normal_pose(self.reference("reference_pose", index), place)

    def side_poses(self, index: NDArray[np.integer]) -> NDArray[np.float32]:
        """Normal poses (B, 2, 6) of the side portraits, by reference index."""
        place = self.place(self.identity_of_reference[index])
        return normal_pose(self.reference("side_poses", index), place[:, None])

    def side_depth(self, index: NDArray[np.integer]) -> NDArray[np.float32]:
        """Normal depth (B, 2, 128, 128) of the side portraits, by reference index, else as `depth`."""
        raw = np.asarray(self.reference("side_depth", index), np.float32)
        depth = normal_depth(raw, self.place(self.identity_of_reference[index])[:, None])
        return np.where(raw > NO_DEPTH + 1, depth, NO_DEPTH).astype(np.float32)

    def depth(self, index: NDArray[np.integer]) -> NDArray[np.float32]:
        """Normal depth (B, 128, 128) of targets, NO_DEPTH where there is nobody."""
        raw = np.asarray(self.triple("depth", index), np.float32)
        depth = normal_depth(raw, self.place(self.identity[index]))
        return np.where(raw > NO_DEPTH + 1, depth, NO_DEPTH).astype(np.float32)

    def _places(self) -> dict[int, NDArray[np.float32]]:
        """As the writers noted them."""
        missing = [str(part) for part, info in enumerate(self.info) if "places" not in info]
        if missing:
            raise BadMediaError(f"part {', '.join(missing)} of the data set notes no places: render it again")
        return {
            int(seed): np.array(place, np.float32)
            for info in self.info
            for seed, place in zip(info["seeds"], info["places"], strict=True)
        }

    def split(self, held_out_identities: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Triple indices for training and for evaluation; the last identities are held out."""
        names = np.unique(self.identity_of_reference)
        held_out = np.isin(self.identity, names[len(names) - held_out_identities :])
        return np.nonzero(~held_out)[0], np.nonzero(held_out)[0]


def _of_all_parts(done: list[Path], name: str) -> list[NDArray[np.generic]] | None:
    """None unless every part has it."""
    paths = [path.parent / name for path in done]
    return [np.load(path, mmap_mode="r") for path in paths] if all(p.exists() for p in paths) else None


def _gather(
    arrays: list[NDArray[np.generic]], starts: NDArray[np.integer], index: NDArray[np.integer]
) -> NDArray[np.generic]:
    part = np.searchsorted(starts, index, side="right") - 1
    return np.stack([arrays[p][i - starts[p]] for p, i in zip(part, index, strict=True)])


def _open_part(folder: Path) -> TriplesPart:
    def load(names: dict[str, tuple[tuple[int, ...], str]]) -> dict[str, NDArray[np.generic]]:
        missing = [name for name in names if not (folder / f"{name}.npy").exists()]
        if missing:
            raise BadMediaError(f"{folder} is of an older version, without {missing[0]}: render it again")
        return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}

    return TriplesPart(references=load(REFERENCE_ARRAYS), triples=load(TRIPLE_ARRAYS))


def create_part(folder: Path, references: int, triples: int) -> TriplesPart:
    """Empty arrays on disk for a writer to fill; `finish_part` makes them visible."""
    folder.mkdir(parents=True, exist_ok=True)

    def create(names: dict[str, tuple[tuple[int, ...], str]], count: int) -> dict[str, NDArray[np.generic]]:
        return {
            name: np.lib.format.open_memmap(
                str(folder / f"{name}.npy"), mode="w+", dtype=np.dtype(dtype), shape=(count, *shape)
            )
            for name, (shape, dtype) in names.items()
        }

    return TriplesPart(
        references=create(REFERENCE_ARRAYS, references), triples=create(TRIPLE_ARRAYS, triples)
    )


def finish_part(folder: Path, part: TriplesPart, info: dict[str, object]) -> None:
    """Flush the arrays, then write `done.json`, without which the part does not exist."""
    for array in (*part.references.values(), *part.triples.values()):
        assert isinstance(array, np.memmap)
        array.flush()
    (folder / "done.json").write_text(json.dumps(info))
