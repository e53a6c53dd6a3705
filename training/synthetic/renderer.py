"""Renders one identity in one scene: expression weights and a head pose in, picture and z-buffer out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.synthetic.head_pack import PIVOT, Material, smoothstep
from training.synthetic.identity import Identity, Scene
from training.synthetic.raster import project, rasterise, vertex_normals
from training.synthetic.shading import apply_tone_curve, shade, tone_curve

Background = Literal["black", "scene"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Render:
    """One picture with the geometry that made it; `truth` reads ground truth from it.

    Legend: S picture side, R raster side (S x supersampling), N vertices (fine head, then hair shell).
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
        self._curve = tone_curve()
        self._join_meshes()
        if background == "scene":
            sized = cv2.resize(scene.background, (self._raster_px, self._raster_px))
            self._background = np.ascontiguousarray(sized, np.float32)
        else:
            self._background = np.zeros((self._raster_px, self._raster_px, 3), np.float32)

    def _join_meshes(self) -> None:
        """Head, then the long-hair shell where worn, then the hair shell on a second copy of the vertices."""
        identity, pack = self.identity, self.identity.pack
        is_long_hair = pack.triangle_material_T == Material.HAIR
        head = pack.triangles_T3[~is_long_hair]
        long_hair = pack.triangles_T3[is_long_hair if identity.has_long_hair else np.zeros_like(is_long_hair)]
        shell = identity.hair_triangles + len(pack.canonical_F3)
        hair_count = len(long_hair) + len(shell)
        self._solid_T3 = np.ascontiguousarray(np.concatenate([head, long_hair]))
        self.triangles_T3 = np.ascontiguousarray(np.concatenate([head, long_hair, shell]), np.int32)
        self._material_T = np.concatenate(
            [pack.triangle_material_T[~is_long_hair], np.full(hair_count, int(Material.HAIR), np.int32)]
        )
        self._uv_T32 = np.concatenate(
            [pack.triangle_uv_T32[~is_long_hair], np.zeros((hair_count, 3, 2), np.float32)]
        )
        self._canonical_N3 = np.concatenate([pack.canonical_F3, pack.canonical_F3])
        thinning_ends = smoothstep(4.6, 5.6, pack.canonical_F3[:, 1])
        self._coverage_N = np.concatenate([thinning_ends, identity.hair_coverage_F]).astype(np.float32)
        self.head_blend_N = np.concatenate([pack.head_blend_F, pack.head_blend_F])

    def posed_vertices(
        self, weights_52: NDArray[np.float32], pose_6: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Fine vertices (F, 3), without the hair shell."""
        identity, pack = self.identity, self.identity.pack
        active = np.nonzero(weights_52)[0]
        vertices = identity.fine_vertices_F3
        if len(active):
            offsets = np.tensordot(weights_52[active], pack.face_unit_targets[active], 1)
            vertices = vertices + pack.subdivision_FV @ (offsets * np.float32(identity.face_unit_scale))
        pivot = np.array(PIVOT, np.float32)
        turn = rotation_matrix(*(float(angle) for angle in pose_6[:3])).T - np.eye(3, dtype=np.float32)
        moved = vertices + ((vertices - pivot) @ turn) * pack.head_blend_F[:, None]
        return np.asarray(moved + pose_6[3:].astype(np.float32), np.float32)

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
        identity = self.identity
        head = self.posed_vertices(weights, pose)
        normals = vertex_normals(head, self._solid_T3)
        shell = head + normals * identity.hair_offset_F[:, None]
        vertices = np.concatenate([head, shell])
        depth, triangle, weight_1, weight_2 = rasterise(
            project(vertices, self._raster_px),
            self.triangles_T3,
            self._material_T,
            self._canonical_N3,
            self._coverage_N,
            self._raster_px,
        )
        light = self._background.copy()
        segmentation = shade(
            self.triangles_T3,
            self._material_T,
            self._uv_T32,
            np.concatenate([normals, normals]),
            self._canonical_N3,
            triangle,
            weight_1,
            weight_2,
            identity.texture,
            identity.hair_colour,
            identity.iris_colour,
            identity.cloth_colour,
            identity.collar_height,
            identity.specular,
            float(weights[identity.pack.face_units.index("jawOpen")]),
            self.scene.key_direction,
            self.scene.key_colour,
            self.scene.ambient,
            light,
        )
        covered = np.where(segmentation > 0, np.uint8(255), np.uint8(0))
        return Render(
            image=apply_tone_curve(np.asarray(self._to_picture(light), np.float32), self._curve),
            segmentation=np.ascontiguousarray(segmentation[:: self._step, :: self._step]),
            alpha=np.asarray(self._to_picture(covered), np.uint8),
            pose_6=pose,
            weights_52=weights,
            vertices_N3=vertices,
            triangles_T3=self.triangles_T3,
            head_blend_N=self.head_blend_N,
            landmark_vertices_468=identity.pack.landmark_vertices_468,
            depth_RR=depth,
            triangle_RR=triangle,
            weight_1_RR=weight_1,
            weight_2_RR=weight_2,
        )

    @property
    def _step(self) -> int:
        return self._raster_px // self.size_px

    def _to_picture(self, raster: NDArray[Any]) -> NDArray[Any]:
        if self._step == 1:
            return raster
        return np.asarray(cv2.resize(raster, (self.size_px, self.size_px), interpolation=cv2.INTER_AREA))
