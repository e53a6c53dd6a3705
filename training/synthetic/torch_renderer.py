"""The renderer's rasteriser and shading as torch operations: frames of one person, batched, on any device.

Materials, lights and the patterns that cut strands, lashes and cloth are the very formulas that the compiled
renderer runs (`shading`, `raster`, written in `elementwise`). Posing the mesh and the shadow of the key light
still happen on the CPU, in the `Renderer` that this one is made from.

Legend: B frames, N vertices, T triangles, R raster side in pixels, P covered pixels, K candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.synthetic import shading
from training.synthetic.elementwise import whole
from training.synthetic.head_pack import Material
from training.synthetic.raster import (
    CAP_WHOLE,
    CARD_TAPER,
    LASH_ROOT,
    LASH_TAPER,
    STRANDS_PER_CARD,
    STRANDS_PER_LASH,
    cap_threshold,
    collar_at,
    project,
    strand_end,
    strand_half_width,
    strand_odds,
)
from training.synthetic.renderer import Renderer
from training.synthetic.shading import Segment

_EMPTY = torch.iinfo(torch.int64).max
_BOX_SIDES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Triangles are grouped by the side of their box of pixels, each group padded to one of these."""
_CANDIDATES_AT_ONCE = 1 << 22
_TWO_SIDED = (Material.HAIR, Material.LASH, Material.FRAME, Material.UPPER_TEETH, Material.LOWER_TEETH)


_Mesh = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""Vertices, normals and tangents (N, 3) of one frame."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ZBuffer:
    """What lies in each pixel: triangle (B, R, R), -1 where empty, and two corners' weights."""

    triangle_BRR: Tensor
    weight_1_BRR: Tensor
    weight_2_BRR: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class TorchRender:
    """Pictures as of `renderer.Render`, on the renderer's device."""

    image_BSS3: Tensor
    segmentation_BSS: Tensor
    alpha_BSS: Tensor
    z_buffer: ZBuffer


class TorchRenderer:
    """Draws what `renderer` draws, many frames at once."""

    def __init__(self, renderer: Renderer, device: torch.device | str = "cpu") -> None:
        self.renderer, self.device = renderer, torch.device(device)
        self._triangles_T3 = self._tensor(renderer.triangles_T3).long()
        self._material_T = self._tensor(renderer.material_T).long()
        self._uv_T32 = self._tensor(renderer.uv_T32)
        self._coordinates_N3 = self._tensor(renderer.coordinates_N3)
        self._coverage_N = self._tensor(renderer.coverage_N)
        self._grain = self._tensor(renderer.grain)
        self._skin_TT8 = self._tensor(renderer.identity.skin_TT8)
        self._curve = self._tensor(renderer.curve)
        self._background = self._tensor(renderer.background_RR3)
        sides = torch.zeros(len(Material), dtype=torch.bool, device=self.device)
        sides[[int(material) for material in _TWO_SIDED]] = True
        self._is_two_sided_T = sides[self._material_T]

    def render(self, weights_B52: NDArray[np.floating], poses_B6: NDArray[np.floating]) -> TorchRender:
        """Draw a frame for each row of weights (B, 52) and poses (B, 6), as `Renderer.render`."""
        meshes = self._posed(weights_B52, poses_B6)
        screen = np.stack([project(vertices, self.renderer.raster_px) for vertices, _, _ in meshes])
        return self._draw_over(self.rasterise(self._tensor(screen)), meshes, weights_B52)

    def draw_over(
        self, z_buffer: ZBuffer, weights_B52: NDArray[np.floating], poses_B6: NDArray[np.floating]
    ) -> TorchRender:
        """As `render`, over a z-buffer that somebody else has made of the same frames."""
        return self._draw_over(z_buffer, self._posed(weights_B52, poses_B6), weights_B52)

    def _posed(self, weights_B52: NDArray[np.floating], poses_B6: NDArray[np.floating]) -> list[_Mesh]:
        weights, poses = _clipped(weights_B52), np.asarray(poses_B6, np.float32)
        return [self.renderer.posed_mesh(w, p) for w, p in zip(weights, poses, strict=True)]

    def _draw_over(
        self, z_buffer: ZBuffer, meshes: list[_Mesh], weights_B52: NDArray[np.floating]
    ) -> TorchRender:
        seen = np.ones(len(self.renderer.coordinates_N3), np.bool_)
        attributes = np.stack([self.renderer.attributes(v, n, seen) for v, n, _ in meshes])
        tangents = np.stack([mesh[2] for mesh in meshes])
        folds = np.array([self.renderer.folds(w) for w in _clipped(weights_B52)], np.float32)
        light, segmentation = self.shade(
            z_buffer, self._tensor(attributes), self._tensor(tangents), self._tensor(folds)
        )
        return self._picture(light, segmentation, z_buffer)

    def rasterise(self, screen_BN3: Tensor) -> ZBuffer:
        """The nearest surface in each pixel, of projected vertices."""
        frames, side = len(screen_BN3), self.renderer.raster_px
        nearest = torch.full((frames * side * side,), _EMPTY, dtype=torch.int64, device=self.device)
        for screen_N3, cells in zip(screen_BN3, nearest.view(frames, -1), strict=True):
            self._draw(screen_N3, cells)
        triangle = torch.where(nearest == _EMPTY, -1, nearest & 0xFFFFFFFF).view(frames, side, side)
        where_BRR = (triangle >= 0).nonzero(as_tuple=True)
        weight_1 = torch.zeros((frames, side, side), device=self.device)
        weight_2 = torch.zeros_like(weight_1)
        frame, row, column = where_BRR
        corners = screen_BN3[frame[:, None], self._triangles_T3[triangle[where_BRR]]]
        first, second, _ = _weights(corners, column, row)
        weight_1[where_BRR], weight_2[where_BRR] = first, second
        return ZBuffer(triangle_BRR=triangle, weight_1_BRR=weight_1, weight_2_BRR=weight_2)

    def _draw(self, screen_N3: Tensor, cells: Tensor) -> None:
        """Note depth and triangle of the nearest surface in `cells` (R * R), packed in one integer."""
        side = self.renderer.raster_px
        corners_T33 = screen_N3[self._triangles_T3]
        edge_1, edge_2 = corners_T33[:, 1] - corners_T33[:, 0], corners_T33[:, 2] - corners_T33[:, 0]
        area = edge_1[:, 0] * edge_2[:, 1] - edge_2[:, 0] * edge_1[:, 1]
        low = (corners_T33[..., :2].amin(1) - 0.5).ceil().clamp(0, side).long()
        high = (corners_T33[..., :2].amax(1) - 0.5).floor().clamp(-1, side - 1).long()
        extent = (high - low + 1).amax(1)
        is_drawn = ((area < 0) | self._is_two_sided_T) & (area.abs() >= 1e-9) & ((high >= low).all(1))
        smaller = 0
        for box in _BOX_SIDES:
            chosen = (is_drawn & (extent > smaller) & (extent <= box)).nonzero()[:, 0]
            smaller = box
            for part in torch.split(chosen, max(1, _CANDIDATES_AT_ONCE // (box * box))):
                self._draw_boxes(corners_T33, part, low[part], high[part], box, cells)

    def _draw_boxes(
        self, corners_T33: Tensor, triangles: Tensor, low: Tensor, high: Tensor, box: int, cells: Tensor
    ) -> None:
        steps = torch.arange(box, device=self.device)
        column = (low[:, 0, None, None] + steps).expand(-1, box, -1)
        row = (low[:, 1, None, None] + steps[:, None]).expand(-1, -1, box)
        inside = (column <= high[:, 0, None, None]) & (row <= high[:, 1, None, None])
        which, down, across = inside.nonzero(as_tuple=True)
        column, row = column[which, down, across], row[which, down, across]
        triangle = triangles[which]
        weight_1, weight_2, depth = _weights(corners_T33[triangle], column, row)
        kept = (weight_1 >= 0) & (weight_2 >= 0) & (weight_1 + weight_2 <= 1)
        kept = kept.nonzero()[:, 0]
        triangle, column, row = triangle[kept], column[kept], row[kept]
        weight_1, weight_2, depth = weight_1[kept], weight_2[kept], depth[kept]
        solid = ~self._is_cut(triangle, weight_1, weight_2)
        packed = (depth[solid].view(torch.int32).long() << 32) | triangle[solid]
        places = row[solid] * self.renderer.raster_px + column[solid]
        cells.scatter_reduce_(0, places, packed, "amin")

    def _is_cut(self, triangle_K: Tensor, weight_1_K: Tensor, weight_2_K: Tensor) -> Tensor:
        """Whether there is a gap at a candidate: between strands, above the collar, beyond the hairline."""
        material = self._material_T[triangle_K]
        cut = torch.zeros_like(material, dtype=torch.bool)
        corners = self._triangles_T3[triangle_K]
        for kind in (Material.HAIR, Material.LASH, Material.CLOTH, Material.CAP):
            chosen = (material == int(kind)).nonzero()[:, 0]
            if len(chosen) == 0:
                continue
            mixed = _mix(self._coordinates_N3[corners[chosen]], weight_1_K[chosen], weight_2_K[chosen])
            x, y, z = mixed.unbind(-1)
            if kind == Material.HAIR:
                cut[chosen] = self._is_beside_strands(x, y, z, STRANDS_PER_CARD, CARD_TAPER)
            elif kind == Material.LASH:
                beside = self._is_beside_strands(x, y, z, STRANDS_PER_LASH, LASH_TAPER)
                cut[chosen] = beside & (y > float(LASH_ROOT))
            elif kind == Material.CLOTH:
                cut[chosen] = y > collar_at(self.renderer.look.collar, x, z)
            else:
                cover = self._coverage_N[corners[chosen]][..., None]
                cover = _mix(cover, weight_1_K[chosen], weight_2_K[chosen])[:, 0]
                cut[chosen] = (cover < CAP_WHOLE) & (cover < cap_threshold(self._grain, x, y, z))
        return cut

    def _is_beside_strands(
        self, across: Tensor, along: Tensor, card: Tensor, strands: Any, taper: Any
    ) -> Tensor:
        position = (across + 1) * 0.5 * strands
        lane, number = whole(position), whole(card) & 255
        past_end = along > strand_end(self._grain[(lane + 128) & 255, number], taper)
        missing = self._grain[lane & 255, number] > strand_odds(across)
        between = (position - lane - 0.5).abs() > strand_half_width(across, along)
        beside: Tensor = (along > 1) | past_end | missing | between
        return beside

    def shade(
        self, z_buffer: ZBuffer, attributes_BN8: Tensor, tangents_BN3: Tensor, folds_B2: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Linear light (B, R, R, 3) over the background, and the segmentation (B, R, R).

        folds_B2 holds how far smile and brows deepen the folds; the rest as of `shading.shade`.
        """
        covered = (z_buffer.triangle_BRR >= 0).nonzero(as_tuple=True)
        material_P = self._material_T[z_buffer.triangle_BRR[covered]]
        colour_P3 = torch.zeros((len(covered[0]), 3), device=self.device)
        segment_P = torch.zeros(len(covered[0]), dtype=torch.uint8, device=self.device)
        for material in Material:
            chosen = (material_P == int(material)).nonzero()[:, 0]
            if len(chosen):
                places = tuple(index[chosen] for index in covered)
                at = _Pixels(self, z_buffer, places, attributes_BN8, tangents_BN3, folds_B2)
                colour_P3[chosen], segment_P[chosen] = self._shade_material(int(material), at)
        image = self._background.repeat(len(z_buffer.triangle_BRR), 1, 1, 1)
        image[covered] = colour_P3
        if self.renderer.raster_px == 2 * self.renderer.size_px:
            self._halve_smooth(z_buffer.triangle_BRR, image)
        segmentation = torch.zeros(image.shape[:3], dtype=torch.uint8, device=self.device)
        segmentation[covered] = segment_P
        return image, segmentation

    def _halve_smooth(self, triangle_BRR: Tensor, light_BRR3: Tensor) -> None:
        """Where four pixels show skin alone, or cloth alone, keep two of them, as the compiled renderer."""
        material = torch.where(triangle_BRR < 0, -1, self._material_T[triangle_BRR])
        corners = [material[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        is_smooth = (corners[0] == int(Material.SKIN)) | (corners[0] == int(Material.CLOTH))
        for corner in corners[1:]:
            is_smooth &= corner == corners[0]
        mean = 0.5 * (light_BRR3[:, ::2, ::2] + light_BRR3[:, 1::2, 1::2])
        for i, j in ((0, 1), (1, 0)):
            left_out = light_BRR3[:, i::2, j::2]
            left_out.copy_(torch.where(is_smooth[..., None], mean, left_out))

    def _shade_material(self, material: int, at: _Pixels) -> tuple[Tensor, Tensor]:
        look, light = self.renderer.look, self.renderer.light
        normal, (x, y, z), sky, key = at.normal_P3, at.coordinates_P3.unbind(-1), at.sky_P, at.key_P
        nz = normal[:, 2]
        half_angle = _dot(normal, light.half_direction).clamp(min=0)
        segment: Any = {
            Material.SKIN: Segment.SKIN,
            Material.MOUTH: Segment.MOUTH,
            Material.TONGUE: Segment.TONGUE,
            Material.CLOTH: Segment.CLOTH,
            Material.FRAME: Segment.GLASSES,
            Material.UPPER_TEETH: Segment.TEETH,
            Material.LOWER_TEETH: Segment.TEETH,
        }.get(Material(material), Segment.HAIR)
        if material == Material.SKIN:
            smile, brows = at.folds_P2.unbind(-1)
            texel = self._texel(at.uv_P2).unbind(-1)
            surface = shading.skin(texel, nz, half_angle, smile, brows, look.gloss)
        elif material == Material.HAIR:
            along_key = _dot(at.tangent_P3, light.key_direction)
            along_half = _dot(at.tangent_P3, light.half_direction)
            surface = shading.hair(x, y, z, along_key, along_half, look.hair_root, look.hair_tip, self._grain)
        elif material == Material.CLOTH:
            surface = self._cloth(x, y, z, nz)
        elif material == Material.EYE:
            shadow = at.lid_light()
            sky, key = shadow, key * shadow
            catch = _dot(normal, light.catch_direction)
            surface, is_iris = shading.eye(x, y, z, catch, look.iris, self._grain)
            segment = torch.where(is_iris, int(Segment.IRIS), int(Segment.SCLERA)).to(torch.uint8)
        elif material in (Material.UPPER_TEETH, Material.LOWER_TEETH):
            sky = key = shading.teeth_light(at.lid_light())
            surface = shading.teeth(material == Material.UPPER_TEETH, x, y, z, half_angle, look.teeth)
        elif material == Material.MOUTH:
            sky, key = (torch.full_like(x, float(share)) for share in shading.mouth_light())
            surface = shading.mouth(z, half_angle)
        elif material == Material.TONGUE:
            sky = key = at.lid_light()
            surface = shading.tongue(x, z, half_angle, self._grain)
        elif material == Material.LASH:
            surface = shading.LASH_SURFACE
        elif material == Material.FRAME:
            surface = shading.frame(half_angle, look.frame)
        else:
            surface = shading.cap(x, y, z, look.hair_root, self._grain)
        facing_key, facing_rim = _dot(normal, light.key_direction), _dot(normal, light.rim_direction)
        colour = shading.lit_colour(
            surface, material, facing_key, normal[:, 1], nz, facing_rim, sky, key, light
        )
        if not isinstance(segment, Tensor):
            segment = torch.full_like(x, int(segment), dtype=torch.uint8)
        return torch.stack(list(colour), -1), segment

    def _cloth(self, x: Tensor, y: Tensor, z: Tensor, facing: Tensor) -> shading.Surface:
        look = self.renderer.look
        share: Tensor = torch.zeros_like(x)
        if look.cloth_pattern == shading.STRIPES:
            share = shading.stripes(y)
        elif look.cloth_pattern == shading.CHECKS:
            share = shading.checks(x, y)
        elif look.cloth_pattern == shading.HEATHER:
            share = shading.heather(x, y, self._grain)
        below = collar_at(look.collar, x, z) - y
        return shading.cloth(x, y, facing, below, shading.ribs(x, z), share, look, self._grain)

    def _texel(self, uv_P2: Tensor) -> Tensor:
        """The channels of the skin's texture (P, 8), read smoothly, 0 to 255."""
        x, y = shading.texel_place(uv_P2[:, 0], uv_P2[:, 1], np.float32(len(self._skin_TT8)))
        left, top = x.long(), y.long()
        fu, fv = (x - left)[:, None], (y - top)[:, None]
        above = self._skin_TT8[top, left] * (1 - fu) + self._skin_TT8[top, left + 1] * fu
        below = self._skin_TT8[top + 1, left] * (1 - fu) + self._skin_TT8[top + 1, left + 1] * fu
        texel: Tensor = above * (1 - fv) + below * fv
        return texel

    def _picture(self, light_BRR3: Tensor, segmentation_BRR: Tensor, z_buffer: ZBuffer) -> TorchRender:
        step = self.renderer.raster_px // self.renderer.size_px
        light = F.avg_pool2d(light_BRR3.permute(0, 3, 1, 2), step).permute(0, 2, 3, 1)
        level = (light.clamp(0, 4) * ((len(self._curve) - 1) / 4.0) + 0.5).long()
        covered = (segmentation_BRR > 0).float()[:, None] * 255
        alpha = (F.avg_pool2d(covered, step)[:, 0] + 0.5).to(torch.uint8)
        return TorchRender(
            image_BSS3=self._curve[level],
            segmentation_BSS=segmentation_BRR[:, ::step, ::step],
            alpha_BSS=alpha,
            z_buffer=z_buffer,
        )

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


class _Pixels:
    """What the formulas read, at some covered pixels."""

    def __init__(
        self,
        owner: TorchRenderer,
        z_buffer: ZBuffer,
        covered: tuple[Tensor, ...],
        attributes_BN8: Tensor,
        tangents_BN3: Tensor,
        folds_B2: Tensor,
    ) -> None:
        self._owner, self._z_buffer, self._covered = owner, z_buffer, covered
        frame = covered[0]
        triangle = z_buffer.triangle_BRR[covered]
        first, second = z_buffer.weight_1_BRR[covered], z_buffer.weight_2_BRR[covered]
        corners = owner._triangles_T3[triangle]
        mixed = _mix(attributes_BN8[frame[:, None], corners], first, second)
        self.normal_P3 = mixed[:, :3] * (mixed[:, :3].square().sum(-1, keepdim=True) + 1e-12).rsqrt()
        self.coordinates_P3 = mixed[:, 3:6]
        self.sky_P, self.key_P = mixed[:, 6], mixed[:, 7]
        self.tangent_P3 = _mix(tangents_BN3[frame[:, None], corners], first, second)
        uv = owner._uv_T32[triangle.clamp(max=len(owner._uv_T32) - 1)]  # only the head's triangles have any
        self.uv_P2 = _mix(uv, first, second)
        self.folds_P2 = folds_B2[frame]

    def lid_light(self) -> Tensor:
        """`shading.lid_light` from the skin and lashes about each pixel."""
        triangle = self._z_buffer.triangle_BRR
        side = triangle.shape[1]
        reach = shading.lid_reach(side)
        material = torch.where(triangle >= 0, self._owner._material_T[triangle.clamp(min=0)], -1)
        is_skin = material == int(Material.SKIN)
        is_lid = is_skin | (material == int(Material.LASH))
        frame, row, column = (index[:, None] for index in self._covered)
        steps = torch.arange(1, reach, device=triangle.device)

        def found(mask: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
            inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
            return mask[frame, rows.clamp(0, side - 1), columns.clamp(0, side - 1)] & inside

        def distance(hit: Tensor) -> Tensor:
            first = hit.long().argmax(1) + 1
            return torch.where(hit.any(1), first, reach).float() / reach

        still_row, still_column = row.expand(-1, len(steps)), column.expand(-1, len(steps))
        above = found(is_lid, row - steps, still_column)
        below = found(is_skin, row + steps, still_column)
        both_inside = (column - steps >= 0) & (column + steps < side)
        beside = found(is_skin, still_row, column - steps) | found(is_skin, still_row, column + steps)
        light: Tensor = shading.lid_light(distance(above), distance(below), distance(beside & both_inside))
        return light


def _clipped(weights_B52: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.clip(np.asarray(weights_B52, np.float32), 0, 1)


def _dot(vectors_P3: Tensor, direction: shading.Colour) -> Tensor:
    x, y, z = vectors_P3.unbind(-1)
    return x * float(direction[0]) + y * float(direction[1]) + z * float(direction[2])


def _mix(corners_P3A: Tensor, weight_1_P: Tensor, weight_2_P: Tensor) -> Tensor:
    """Attributes (P, A) inside triangles, of those at their corners."""
    weights = torch.stack([1 - weight_1_P - weight_2_P, weight_1_P, weight_2_P], 1)
    return (corners_P3A * weights[..., None]).sum(1)


def _weights(corners_K33: Tensor, column_K: Tensor, row_K: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of the second and third corners at pixel centres, and the depth there."""
    start, edge_1, edge_2 = (
        corners_K33[:, 0],
        corners_K33[:, 1] - corners_K33[:, 0],
        corners_K33[:, 2] - corners_K33[:, 0],
    )
    inverse = 1 / (edge_1[:, 0] * edge_2[:, 1] - edge_2[:, 0] * edge_1[:, 1])
    px, py = column_K + 0.5 - start[:, 0], row_K + 0.5 - start[:, 1]
    weight_1 = (px * edge_2[:, 1] - edge_2[:, 0] * py) * inverse
    weight_2 = (edge_1[:, 0] * py - px * edge_1[:, 1]) * inverse
    return weight_1, weight_2, start[:, 2] + weight_1 * edge_1[:, 2] + weight_2 * edge_2[:, 2]
