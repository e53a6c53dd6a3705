"""Renders one identity in one scene: expression weights and a head pose in, picture and z-buffer out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.synthetic.head_pack import PIVOT, TEXTURE_CHANNELS, Material, smoothstep
from training.synthetic.identity import Identity
from training.synthetic.jit import jit
from training.synthetic.lashes import lash_mesh
from training.synthetic.occlusion import (
    ambient_occlusion,
    height_map,
    light_frame,
    seen_from_light,
    visibility,
)
from training.synthetic.raster import (
    grain_table,
    project,
    rasterise,
    seen_vertices,
    side_by_side,
    vertex_normals,
)
from training.synthetic.scene import Scene
from training.synthetic.shading import Light, Look, as_drawn, halved, shade, tone_curve

Background = Literal["black", "scene"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Render:
    """One picture with the geometry that made it; `truth` reads ground truth from it.

    Legend: S picture side, R raster side (S x supersampling), N vertices (fine head first, then what it
    wears).
    """

    image: NDArray[np.uint8]
    """(S, S, 3) RGB."""
    segmentation: NDArray[np.uint8]
    """(S, S), values of `shading.Segment`."""
    alpha: NDArray[np.uint8]
    """(S, S), 255 where the figure covers the whole pixel."""
    pose_6: NDArray[np.float32]
    """Pitch, yaw, roll in degrees; translation x, y, z in head units."""
    weights_52: NDArray[np.float32]
    vertices_N3: NDArray[np.float32]
    triangles_T3: NDArray[np.int32]
    head_blend_N: NDArray[np.float32]
    landmark_vertices_468: NDArray[np.int32]
    depth_RR: NDArray[np.float32]
    """Distance from the camera plane in head units, 1e9 where empty."""
    triangle_RR: NDArray[np.int32]
    weight_1_RR: NDArray[np.float32]
    weight_2_RR: NDArray[np.float32]


def rotation_matrix(pitch_deg: float, yaw_deg: float, roll_deg: float) -> NDArray[np.float32]:
    """Roll x yaw x pitch. Positive: pitch looks down, yaw turns to the picture's right, roll tilts
    anticlockwise in the picture.
    """
    p, y, r = math.radians(pitch_deg), math.radians(yaw_deg), math.radians(roll_deg)
    about_x = np.array([[1, 0, 0], [0, math.cos(p), -math.sin(p)], [0, math.sin(p), math.cos(p)]])
    about_y = np.array([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    about_z = np.array([[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, np.float32)


@jit
def _turned(
    vertices_N3: NDArray[np.float32],
    head_blend_N: NDArray[np.float32],
    turn_33: NDArray[np.float32],
    shift_3: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Points at rest, moved as far as they follow the head's pose."""
    out = np.empty_like(vertices_N3)
    for i in range(len(vertices_N3)):
        x, y, z = vertices_N3[i, 0], vertices_N3[i, 1], vertices_N3[i, 2]
        dx, dy, dz = x - np.float32(PIVOT[0]), y - np.float32(PIVOT[1]), z - np.float32(PIVOT[2])
        share = head_blend_N[i]
        for k in range(3):
            turned = turn_33[k, 0] * dx + turn_33[k, 1] * dy + turn_33[k, 2] * dz
            out[i, k] = vertices_N3[i, k] + share * (turned - (dx, dy, dz)[k]) + shift_3[k]
    return out


@jit
def _expressed(
    coarse_V3: NDArray[np.float32],
    targets_UV3: NDArray[np.float32],
    weights_U: NDArray[np.float32],
    data: NDArray[np.float32],
    indices: NDArray[np.int32],
    indptr: NDArray[np.int32],
    rest_F3: NDArray[np.float32],
) -> NDArray[np.float32]:
    """`rest_F3` moved by weighted face units, given on coarse vertices and subdivided by a CSR matrix.

    `coarse_V3` is room to work in.
    """
    coarse_V3[:] = 0
    for u in range(len(weights_U)):
        if weights_U[u] == 0:
            continue
        for i in range(len(coarse_V3)):
            for k in range(3):
                coarse_V3[i, k] += weights_U[u] * targets_UV3[u, i, k]
    out = rest_F3.copy()
    for i in range(len(out)):
        for j in range(indptr[i], indptr[i + 1]):
            for k in range(3):
                out[i, k] += data[j] * coarse_V3[indices[j], k]
    return out


def _triple(values: NDArray[np.floating]) -> tuple[np.float32, np.float32, np.float32]:
    first, second, third = (np.float32(value) for value in values)
    return first, second, third


def _look(identity: Identity) -> Look:
    return Look(
        hair_root=_triple(identity.hair_colour),
        hair_tip=_triple(identity.hair_tip_colour),
        iris=_triple(identity.iris_colour),
        teeth=_triple(identity.teeth_colour),
        cloth=_triple(identity.cloth_colours[0]),
        cloth_accent=_triple(identity.cloth_colours[1]),
        cloth_pattern=identity.cloth_pattern,
        collar=_triple(identity.collar),
        frame=_triple(identity.frame_colour),
        gloss=np.float32(identity.gloss),
    )


def _light(scene: Scene) -> Light:
    catch = 0.32 * scene.key_direction + np.array([0, 0.06, 1.0])
    half = scene.key_direction + np.array([0, 0, 1.0])
    return Light(
        key_direction=_triple(scene.key_direction),
        key_colour=_triple(scene.key_colour),
        half_direction=_triple(half / np.linalg.norm(half)),
        rim_direction=_triple(scene.rim_direction),
        rim_colour=_triple(scene.rim_colour),
        sky=_triple(1.05 * scene.ambient * scene.sky_tint),
        ground=_triple(0.55 * scene.ambient * scene.ground_tint),
        catch_direction=_triple(catch / np.linalg.norm(catch)),
    )


class Renderer:
    """Draws one identity in one scene, at `size_px`, supersampled 1 or 2 times."""

    def __init__(
        self,
        identity: Identity,
        scene: Scene,
        *,
        size_px: int = 256,
        supersampling: int = 1,
        background: Background = "black",
    ) -> None:
        if supersampling not in (1, 2):
            raise ValueError(f"supersampling must be 1 or 2, got {supersampling}")
        self.identity, self.scene = identity, scene
        self.size_px, self.raster_px = size_px, size_px * supersampling
        self.curve, self.grain, self._lashes = tone_curve(), grain_table(), lash_mesh()
        self._light_frame = light_frame(scene.key_direction)
        self.look, self.light = _look(identity), _light(scene)
        self._find_units()
        self._join_meshes()
        self._bake_occlusion()
        if background == "scene":
            sized = cv2.resize(scene.background, (self.raster_px, self.raster_px))
            self.background_RR3 = np.ascontiguousarray(sized, np.float32)
        else:
            self.background_RR3 = np.zeros((self.raster_px, self.raster_px, 3), np.float32)

    def _find_units(self) -> None:
        """Which coefficients and vertices the folds, the lashes and the occlusion read."""
        pack = self.identity.pack

        def units(*names: str) -> NDArray[np.intp]:
            return np.array([pack.face_units.index(name) for name in names])

        self._blink = units("eyeBlinkLeft", "eyeBlinkRight")
        self._smile = units("mouthSmileLeft", "mouthSmileRight")
        self._brow_up = units("browInnerUp", "browOuterUpLeft", "browOuterUpRight")
        self._opened = np.zeros(52, np.float32)
        self._opened[self._blink] = 1
        self._opened[units("jawOpen")] = 0.25
        self._opened[
            units("mouthUpperUpLeft", "mouthUpperUpRight", "mouthLowerDownLeft", "mouthLowerDownRight")
        ] = 0.3
        eyes = np.unique(pack.triangles_T3[pack.triangle_material_T == Material.EYE])
        self._eye_left = eyes[pack.canonical_F3[eyes, 0] > 0]
        self._eye_right = eyes[pack.canonical_F3[eyes, 0] < 0]

    def _join_meshes(self) -> None:
        """Head, shell, rigid parts and lashes as one mesh: what of it stays the same from frame to frame."""
        identity, pack = self.identity, self.identity.pack
        shell, rigid, lashes = identity.shell, identity.rigid, self._lashes
        fine = len(pack.canonical_F3)
        self._rigid_from = fine + len(shell.source_S)
        lashes_from = self._rigid_from + len(rigid.vertices_H3)
        is_head = pack.triangle_material_T != Material.HAIR
        self._head_T3 = np.ascontiguousarray(pack.triangles_T3[is_head])
        groups = [
            (self._head_T3, pack.triangle_material_T[is_head]),
            (shell.triangles_K3 + np.int32(fine), shell.material_K),
            (rigid.triangles_K3 + np.int32(self._rigid_from), rigid.material_K),
            (
                lashes.triangles_K3 + np.int32(lashes_from),
                np.full(len(lashes.triangles_K3), int(Material.LASH)),
            ),
        ]
        # Hair in front is drawn first, so that what lies behind it is skipped sooner.
        nearest = np.argsort(-rigid.vertices_H3[rigid.triangles_K3, 2].mean(1), kind="stable")
        nearest = nearest[np.argsort(rigid.material_K[nearest], kind="stable")]
        blocking = groups[2][0]
        groups[2] = (blocking[nearest], rigid.material_K[nearest])
        self.triangles_T3 = np.ascontiguousarray(np.concatenate([group[0] for group in groups]), np.int32)
        self.material_T = np.concatenate([group[1] for group in groups]).astype(np.int32)
        self.uv_T32 = np.ascontiguousarray(pack.triangle_uv_T32[is_head])
        self._blockers_T3 = np.concatenate([pack.coarse_triangles_C3, blocking])
        self._casters_T3 = np.concatenate([pack.coarse_triangles_C3, blocking[::2]])
        lash_blend = np.ones(len(lashes.coordinates_E3), np.float32)
        self.head_blend_N = np.concatenate(
            [pack.head_blend_F, pack.head_blend_F[shell.source_S], rigid.head_blend_H, lash_blend]
        )
        self.coordinates_N3 = np.concatenate(
            [
                pack.canonical_F3,
                pack.canonical_F3[shell.source_S],
                rigid.coordinates_H3,
                lashes.coordinates_E3,
            ]
        )
        self.coverage_N = np.zeros(len(self.coordinates_N3), np.float32)
        self.coverage_N[fine : self._rigid_from] = shell.coverage_S

    def _bake_occlusion(self) -> None:
        """Ambient light of every vertex; where eyes and mouth open or close, the better of the two."""
        blends = []
        for weights in (np.zeros(52, np.float32), self._opened):
            vertices, normals, _ = self.posed_mesh(weights, np.zeros(6, np.float32))
            blends.append(ambient_occlusion(vertices, normals, self._blockers_T3))
        open_sky = np.maximum(blends[0], blends[1])
        self._occlusion_N = np.asarray(0.22 + 0.78 * smoothstep(0.0, 0.95, open_sky) ** 0.8, np.float32)

    def posed_mesh(
        self, weights_52: NDArray[np.float32], pose_6: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Vertices, normals and tangents (N, 3) of the whole mesh."""
        identity, shell, rigid = self.identity, self.identity.shell, self.identity.rigid
        head = self.posed_vertices(weights_52, pose_6)
        normals = vertex_normals(head, self._head_T3)
        layer = head[shell.source_S] + normals[shell.source_S] * shell.offset_S[:, None]
        turn = rotation_matrix(*(float(angle) for angle in pose_6[:3]))
        worn = _turned(rigid.vertices_H3, rigid.head_blend_H, turn, pose_6[3:])
        eyes = np.stack([head[self._eye_left].mean(0), head[self._eye_right].mean(0)])
        lashes = self._lashes.vertices(head, eyes, weights_52[self._blink], identity.lash_length)
        forward = np.broadcast_to(turn[:, 2], lashes.shape)
        tangents = np.zeros((len(self.coordinates_N3), 3), np.float32)
        tangents[self._rigid_from : self._rigid_from + len(worn)] = rigid.tangents_H3 @ turn.T
        return (
            np.concatenate([head, layer, worn, lashes]),
            np.concatenate([normals, normals[shell.source_S], rigid.normals_H3 @ turn.T, forward]),
            tangents,
        )

    def posed_vertices(
        self, weights_52: NDArray[np.float32], pose_6: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Fine vertices (F, 3) of the head alone."""
        identity, pack = self.identity, self.identity.pack
        matrix, pose = pack.subdivision_FV, np.asarray(pose_6, np.float32)
        vertices = _expressed(
            np.empty(pack.vertices_V3.shape, np.float32),
            pack.face_unit_targets,
            np.asarray(weights_52, np.float32) * np.float32(identity.face_unit_scale),
            matrix.data,
            matrix.indices,
            matrix.indptr,
            identity.fine_vertices_F3,
        )
        turn = rotation_matrix(*(float(angle) for angle in pose[:3]))
        return _turned(vertices, pack.head_blend_F, turn, pose[3:])

    def render(self, weights_52: ArrayLike, pose_6: ArrayLike) -> Render:
        """Draw one frame.

        weights_52 follows `HeadPack.face_units` and is clipped to [0, 1]; pose_6 is pitch, yaw, roll in
        degrees and the translation x, y, z in head units.
        """
        weights = np.clip(np.asarray(weights_52, np.float32), 0, 1)
        pose = np.asarray(pose_6, np.float32)
        if weights.shape != (52,) or pose.shape != (6,):
            raise ValueError(
                f"weights and pose must have shapes (52,) and (6,), got {weights.shape} and {pose.shape}"
            )
        vertices, normals, tangents = self.posed_mesh(weights, pose)
        depth, triangle, weight_1, weight_2 = rasterise(
            project(vertices, self.raster_px),
            self.triangles_T3,
            self.material_T,
            self.coordinates_N3,
            self.coverage_N,
            self.look.collar,
            self.grain,
            self.raster_px,
        )
        image = self.background_RR3.copy()
        segmentation = np.zeros((self.raster_px, self.raster_px), np.uint8)
        shade(
            self.triangles_T3,
            self.material_T,
            self.uv_T32,
            self.attributes(vertices, normals, seen_vertices(self.triangles_T3, triangle, len(vertices))),
            tangents,
            triangle,
            weight_1,
            weight_2,
            self.grain,
            self.identity.skin_TT8,
            self.look,
            self.light,
            *self.folds(weights),
            self._step == 2,
            image,
            segmentation,
            np.empty(8 + TEXTURE_CHANNELS, np.float32),
        )
        if self._step == 2:
            picture, classes, alpha = halved(image, segmentation, triangle, self.material_T, self.curve)
        else:
            picture, classes, alpha = as_drawn(image, segmentation, self.curve)
        return Render(
            image=picture,
            segmentation=classes,
            alpha=alpha,
            pose_6=pose,
            weights_52=weights,
            vertices_N3=vertices,
            triangles_T3=self.triangles_T3,
            head_blend_N=self.head_blend_N,
            landmark_vertices_468=self.identity.pack.landmark_vertices_468,
            depth_RR=depth,
            triangle_RR=triangle,
            weight_1_RR=weight_1,
            weight_2_RR=weight_2,
        )

    def folds(self, weights_52: NDArray[np.float32]) -> tuple[np.float32, np.float32]:
        """How far a smile and raised brows deepen the skin's folds, 0 to 1."""
        return np.float32(weights_52[self._smile].mean()), np.float32(weights_52[self._brow_up].mean())

    def attributes(
        self, vertices: NDArray[np.float32], normals: NDArray[np.float32], seen: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """What `shade` reads per vertex, side by side in memory."""
        lit = self._key_light(vertices, normals, seen)
        return side_by_side(normals, self.coordinates_N3, self._occlusion_N, lit)

    def _key_light(
        self, vertices: NDArray[np.float32], normals: NDArray[np.float32], seen: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Share of the key light that reaches each seen vertex (N,): soft shadows of the head on itself."""
        heights = height_map(seen_from_light(vertices, normals, 0.0, self._light_frame), self._casters_T3)
        lifted = seen_from_light(vertices, normals, 0.035, self._light_frame)
        return visibility(lifted, seen, heights, 0.03, 0.09, 2)

    @property
    def _step(self) -> int:
        return self.raster_px // self.size_px
