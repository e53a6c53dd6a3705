"""Renders one identity in one scene: expression weights and a head pose in, picture and z-buffer out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.synthetic.head_pack import PIVOT, Material, smoothstep
from training.synthetic.identity import Identity
from training.synthetic.lashes import lash_mesh
from training.synthetic.occlusion import (
    ambient_occlusion,
    height_map,
    light_frame,
    seen_from_light,
    visibility,
)
from training.synthetic.raster import grain_table, project, rasterise, vertex_normals
from training.synthetic.scene import Scene
from training.synthetic.shading import Light, Look, apply_tone_curve, shade, tone_curve

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


def _turned(
    vertices_N3: NDArray[np.float32], head_blend_N: NDArray[np.float32], pose_6: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Points at rest, moved as far as they follow the head's pose."""
    pivot = np.array(PIVOT, np.float32)
    turn = rotation_matrix(*(float(angle) for angle in pose_6[:3])).T - np.eye(3, dtype=np.float32)
    moved = vertices_N3 + ((vertices_N3 - pivot) @ turn) * head_blend_N[:, None]
    return np.asarray(moved + pose_6[3:].astype(np.float32), np.float32)


def _triple(values: NDArray[np.floating]) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
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
        gloss=identity.gloss,
    )


def _light(scene: Scene) -> Light:
    catch = 0.32 * scene.key_direction + np.array([0, 0.06, 1.0])
    return Light(
        key_direction=_triple(scene.key_direction),
        key_colour=_triple(scene.key_colour),
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
        self.size_px, self._raster_px = size_px, size_px * supersampling
        self._curve, self._grain, self._lashes = tone_curve(), grain_table(), lash_mesh()
        self._light_frame = light_frame(scene.key_direction)
        self._look, self._light = _look(identity), _light(scene)
        self._find_units()
        self._join_meshes()
        self._bake_occlusion()
        if background == "scene":
            sized = cv2.resize(scene.background, (self._raster_px, self._raster_px))
            self._background = np.ascontiguousarray(sized, np.float32)
        else:
            self._background = np.zeros((self._raster_px, self._raster_px, 3), np.float32)

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
        self._material_T = np.concatenate([group[1] for group in groups]).astype(np.int32)
        self._uv_T32 = np.ascontiguousarray(pack.triangle_uv_T32[is_head])
        self._blockers_T3 = np.concatenate([pack.coarse_triangles_C3, blocking])
        self._casters_T3 = np.concatenate([pack.coarse_triangles_C3, blocking[::2]])
        lash_blend = np.ones(len(lashes.coordinates_E3), np.float32)
        self.head_blend_N = np.concatenate(
            [pack.head_blend_F, pack.head_blend_F[shell.source_S], rigid.head_blend_H, lash_blend]
        )
        self._coordinates_N3 = np.concatenate(
            [
                pack.canonical_F3,
                pack.canonical_F3[shell.source_S],
                rigid.coordinates_H3,
                lashes.coordinates_E3,
            ]
        )
        self._coverage_N = np.zeros(len(self._coordinates_N3), np.float32)
        self._coverage_N[fine : self._rigid_from] = shell.coverage_S

    def _bake_occlusion(self) -> None:
        """Ambient light of every vertex; where eyes and mouth open or close, the better of the two."""
        blends = []
        for weights in (np.zeros(52, np.float32), self._opened):
            vertices, normals, _ = self._posed_mesh(weights, np.zeros(6, np.float32))
            blends.append(ambient_occlusion(vertices, normals, self._blockers_T3))
        open_sky = np.maximum(blends[0], blends[1])
        self._occlusion_N = np.asarray(0.22 + 0.78 * smoothstep(0.0, 0.95, open_sky) ** 0.8, np.float32)

    def _posed_mesh(
        self, weights_52: NDArray[np.float32], pose_6: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Vertices, normals and tangents (N, 3) of the whole mesh."""
        identity, shell, rigid = self.identity, self.identity.shell, self.identity.rigid
        head = self.posed_vertices(weights_52, pose_6)
        normals = vertex_normals(head, self._head_T3)
        layer = head[shell.source_S] + normals[shell.source_S] * shell.offset_S[:, None]
        turn = rotation_matrix(*(float(angle) for angle in pose_6[:3]))
        worn = _turned(rigid.vertices_H3, rigid.head_blend_H, pose_6)
        eyes = np.stack([head[self._eye_left].mean(0), head[self._eye_right].mean(0)])
        lashes = self._lashes.vertices(head, eyes, weights_52[self._blink], identity.lash_length)
        forward = np.broadcast_to(turn[:, 2], lashes.shape)
        tangents = np.zeros((len(self._coordinates_N3), 3), np.float32)
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
        active = np.nonzero(weights_52)[0]
        vertices = identity.fine_vertices_F3
        if len(active):
            offsets = np.tensordot(weights_52[active], pack.face_unit_targets[active], 1)
            vertices = vertices + pack.subdivision_FV @ (offsets * np.float32(identity.face_unit_scale))
        return _turned(vertices, pack.head_blend_F, pose_6)

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
        vertices, normals, tangents = self._posed_mesh(weights, pose)
        depth, triangle, weight_1, weight_2 = rasterise(
            project(vertices, self._raster_px),
            self.triangles_T3,
            self._material_T,
            self._coordinates_N3,
            self._coverage_N,
            self._look.collar,
            self._grain,
            self._raster_px,
        )
        image = self._background.copy()
        segmentation = shade(
            self.triangles_T3,
            self._material_T,
            self._uv_T32,
            self._attributes(vertices, normals),
            tangents,
            triangle,
            weight_1,
            weight_2,
            self._grain,
            self.identity.skin_TT6,
            self._look,
            self._light,
            float(weights[self._smile].mean()),
            float(weights[self._brow_up].mean()),
            image,
        )
        covered = np.where(segmentation > 0, np.uint8(255), np.uint8(0))
        return Render(
            image=apply_tone_curve(np.asarray(self._to_picture(image), np.float32), self._curve),
            segmentation=np.ascontiguousarray(segmentation[:: self._step, :: self._step]),
            alpha=np.asarray(self._to_picture(covered), np.uint8),
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

    def _attributes(self, vertices: NDArray[np.float32], normals: NDArray[np.float32]) -> NDArray[np.float32]:
        """What `shade` reads per vertex, side by side in memory."""
        attributes = np.empty((len(vertices), 8), np.float32)
        attributes[:, :3] = normals
        attributes[:, 3:6] = self._coordinates_N3
        attributes[:, 6] = self._occlusion_N
        attributes[:, 7] = self._key_light(vertices, normals)
        return attributes

    def _key_light(self, vertices: NDArray[np.float32], normals: NDArray[np.float32]) -> NDArray[np.float32]:
        """Share of the key light that reaches each vertex (N,): soft shadows of the head on itself."""
        heights = height_map(seen_from_light(vertices, self._light_frame), self._casters_T3)
        lifted = seen_from_light(vertices + np.float32(0.035) * normals, self._light_frame)
        return visibility(lifted, heights, 0.03, 0.09, 2)

    @property
    def _step(self) -> int:
        return self._raster_px // self.size_px

    def _to_picture(self, raster: NDArray[Any]) -> NDArray[Any]:
        if self._step == 1:
            return raster
        return np.asarray(cv2.resize(raster, (self.size_px, self.size_px), interpolation=cv2.INTER_AREA))
