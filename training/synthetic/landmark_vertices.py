"""Which vertices MediaPipe's landmarks are, on a face that moves.

The head pack's 468 were found on faces at rest, where closed lips touch: the nine of the lower lip's inner
edge lie on the upper lip there, and some of the upper lids' lie on the fold above. Both are found again here
by what they must do: follow the jaw, or the closing lid. The irises' ten follow from the eyeballs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.synthetic.head_pack import HeadPack, Material

IRIS_ANGLE_RAD = 0.50
"""Half the angle under which the iris is seen from the eyeball's centre; as the shading draws it."""
_INNER_LOWER_LIP = (95, 88, 178, 87, 14, 317, 402, 318, 324)
_OUTER_LOWER_LIP = (146, 91, 181, 84, 17, 314, 405, 321, 375)
_UPPER_LIDS = {
    "eyeBlinkRight": (246, 161, 160, 159, 158, 157),
    "eyeBlinkLeft": (466, 388, 387, 386, 385, 384),
}
_JAW_SHARE = 0.7
"""Of the jaw's way at the outer lip, which the inner lip makes at least."""
_LID_SHARE = 0.62
"""Of the largest way that a landmark of the upper lid makes, which each makes at least."""
_EYES = (-1.0, 1.0)
"""Sign of x of the figure's right and left eye, in MediaPipe's order of the irises."""
_RING_DEG = (0.0, 90.0, 180.0, 270.0)
"""Directions of an iris's four outer points: outwards in the picture's x, up, the other x, down."""


@functools.lru_cache(maxsize=2)
def landmark_vertices_468(pack: HeadPack) -> NDArray[np.int32]:
    """Fine vertex of each of MediaPipe's 468 face landmarks."""
    found = pack.landmark_vertices_468.copy()
    skin = np.unique(pack.triangles_T3[pack.triangle_material_T == int(Material.SKIN)])
    jaw = _way_down(pack, "jawOpen")
    for inner, outer in zip(_INNER_LOWER_LIP, _OUTER_LOWER_LIP, strict=True):
        moving = skin[jaw[skin] >= _JAW_SHARE * jaw[found[outer]]]
        found[inner] = _nearest(pack, moving, found[inner])
    for unit, lid in _UPPER_LIDS.items():
        way = _way_down(pack, unit)
        moving = skin[way[skin] >= _LID_SHARE * way[found[list(lid)]].max()]
        for landmark in lid:
            found[landmark] = _nearest(pack, moving, found[landmark])
    return found


def iris_points(pack: HeadPack, vertices_N3: NDArray[np.float32]) -> NDArray[np.float32]:
    """MediaPipe's landmarks 468 to 477 in space (10, 3): each iris' centre, then four points of its edge."""
    points = []
    for centre_F, pole, ring in _eyeballs(pack):
        centre = vertices_N3[centre_F].mean(0)
        radius = float(np.linalg.norm(vertices_N3[pole] - centre))
        forward = (vertices_N3[pole] - centre) / radius
        points.append(vertices_N3[pole])
        for vertex in ring:
            aside = vertices_N3[vertex] - centre
            aside = aside - (aside @ forward) * forward
            aside = aside / np.linalg.norm(aside)
            direction = np.cos(IRIS_ANGLE_RAD) * forward + np.sin(IRIS_ANGLE_RAD) * aside
            points.append(centre + radius * direction)
    return np.asarray(points, np.float32)


@functools.lru_cache(maxsize=2)
def _eyeballs(pack: HeadPack) -> Sequence[tuple[NDArray[np.intp], int, tuple[int, ...]]]:
    """Of each eye: its vertices, the one in front, and four about it."""
    eyes = np.unique(pack.triangles_T3[pack.triangle_material_T == int(Material.EYE)])
    eyeballs = []
    for sign in _EYES:
        ball = eyes[pack.canonical_F3[eyes, 0] * sign > 0]
        offset = pack.canonical_F3[ball] - pack.canonical_F3[ball].mean(0)
        offset /= np.linalg.norm(offset, axis=1, keepdims=True)
        pole = offset[:, 2].argmax()
        aside = offset - offset[pole]
        near = np.nonzero((offset[:, 2] > 0.9) & (offset[:, 2] < 0.985))[0]
        turn = np.degrees(np.arctan2(aside[near, 1], aside[near, 0]))
        ring = [int(ball[near[np.abs((turn - deg + 180) % 360 - 180).argmin()]]) for deg in _RING_DEG]
        eyeballs.append((np.asarray(ball, np.intp), int(ball[pole]), tuple(ring)))
    return tuple(eyeballs)


def _way_down(pack: HeadPack, face_unit: str) -> NDArray[np.float32]:
    """How far each fine vertex (F,) sinks with a face unit."""
    target = pack.face_unit_targets[pack.face_units.index(face_unit)]
    return np.asarray(-(pack.subdivision_FV @ target[:, 1]), np.float32)


def _nearest(pack: HeadPack, candidates: NDArray[np.integer], to: int) -> int:
    distance = np.linalg.norm(pack.canonical_F3[candidates] - pack.canonical_F3[to], axis=1)
    return int(candidates[distance.argmin()])
