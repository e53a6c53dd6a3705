"""The `edit_repose` generator: edit the face in the reference's own frame, then re-pose it by geometry.

1. The *editor* warps and repaints a face crop of the reference so that it shows the expression and the mouth
   of the codes, still at the reference's pose. A second reference (an open mouth with teeth) is warped too.
2. The *re-poser* predicts depth z and the head/neck blend h of the target view; flow from the target to the
   reference follows from (z, h, both poses) analytically. The edited picture is warped by it, lit as the
   turned surface is under the portrait's light, and repaired. What a turned head uncovers comes from one of
   two *side portraits*, warped likewise.

What depends on the identity alone is computed once (`ReferenceEncoder`). Only standard operators are used,
GridSample in two dimensions, so the generator runs on every backend.

# B batch, C channels, H W pixels; crops are 176 x 144 cut-outs of the 256 px portrait around the face
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcavt.code_space import POSE_SCALE
from gcavt.config import EditReposeGeneratorConfig, GcavtConfig
from gcavt.edit_repose_shapes import LIGHT_TERMS, reference_state_shapes

_EPS = 1e-4
Maps = tuple[Tensor, Tensor, Tensor]
"""Appearance maps at 1/4, 1/8 and 1/16 of the portrait."""

SIDE_FROM_DEG, SIDE_FULL_DEG = 8.0, 20.0
"""Turned by less than the first a head needs nothing of a side portrait, by the second all of it."""
FACE_CENTRE_PX, FACE_RADII_PX, FACE_FADE = (72.0, 70.0), (52.0, 60.0), 1.5
"""In the face crop: an ellipse about eyes and lips; its squared radius where it ends."""
HIDES = 3.0
"""Inverse of the depth, in head units, by which something must be in front to hide the face."""
FACES_FROM, FACES_FULLY = 0.2, 0.4
"""z of its normal, towards the portrait's camera: what is seen more aslant is better lent by the side."""
SIDE_LEAST_DEG = 10.0
"""Less turned than this, from the primary, a side portrait counts for less."""


class _AdainRelu(torch.autograd.Function):
    """relu(instance_norm(x) * scale + shift), keeping only what the backward pass needs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        pixels = x.shape[2] * x.shape[3]
        mean = x.sum((2, 3)) / pixels
        variance = (x * x).sum((2, 3)) / pixels - mean * mean
        rstd = (variance.clamp_min(0) + _EPS).rsqrt()
        gain = scale * rstd
        y = torch.addcmul((shift - mean * gain)[:, :, None, None], x, gain[:, :, None, None]).relu_()
        ctx.save_for_backward(x, y, scale, mean, rstd)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, y, scale, mean, rstd = ctx.saved_tensors
        pixels = x.shape[2] * x.shape[3]
        dz = torch.ops.aten.threshold_backward(grads[0], y, 0)
        dshift = dz.sum((2, 3))
        dscale = ((dz * x).sum((2, 3)) - mean * dshift) * rstd
        gain = scale * rstd
        on_x = -gain * rstd * dscale / pixels
        offset = -gain * dshift / pixels - on_x * mean
        dx = torch.addcmul(offset[:, :, None, None], x, on_x[:, :, None, None])
        return torch.addcmul(dx, dz, gain[:, :, None, None]), dscale, dshift


def adain_relu(x_BCHW: Tensor, scale_BC: Tensor, shift_BC: Tensor) -> Tensor:
    """relu(instance_norm(x) * scale + shift); statistics per sample and channel."""
    if torch.onnx.is_in_onnx_export() or not torch.is_grad_enabled():
        normed = F.instance_norm(x_BCHW, eps=_EPS)
        return F.relu(normed * scale_BC[:, :, None, None] + shift_BC[:, :, None, None])
    result: Tensor = _AdainRelu.apply(x_BCHW, scale_BC, shift_BC)  # type: ignore[no-untyped-call]
    return result


class _HardSigmoid(torch.autograd.Function):
    """clamp(x / 4 + 1/2, 0, 1): a sigmoid without an exponential, which costs a CPU more than a convolution.

    Outside the ramp the gradient still passes where it leads back to it, so that no pixel gets stuck.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x * 0.25 + 0.5).clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        stuck = ((x < -2) & (grads[0] > 0)) | ((x > 2) & (grads[0] < 0))
        return (grads[0] * 0.25).masked_fill(stuck, 0.0)


def hard_sigmoid(x: Tensor) -> Tensor:
    """0 below -2, 1 above 2, straight between; see `_HardSigmoid`."""
    if torch.onnx.is_in_onnx_export() or not torch.is_grad_enabled():
        return (x * 0.25 + 0.5).clamp(0, 1)
    result: Tensor = _HardSigmoid.apply(x)  # type: ignore[no-untyped-call]
    return result


def _upsample(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _upsample_smooth(x: Tensor, factor: float = 2.0) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def pixel_grid(height: int, width: int) -> Tensor:
    """Pixel centres (1, 2, H, W): x then y, the first pixel's centre at 0.5."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y])[None]


def sample(image_BCHW: Tensor, position_B2HW: Tensor, padding: str = "border") -> Tensor:
    """Bilinear samples of an image at pixel positions (x, y), as `pixel_grid` counts them."""
    height, width = image_BCHW.shape[2:]
    per_pixel = position_B2HW.new_tensor([2.0 / width, 2.0 / height])
    grid = position_B2HW.permute(0, 2, 3, 1) * per_pixel - 1.0
    return F.grid_sample(image_BCHW, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def rotation_matrix(degrees_B3: Tensor) -> Tensor:
    """(B, 3, 3) head rotation of (pitch, yaw, roll): roll about z after yaw about y after pitch about x."""
    cos, sin = torch.cos(degrees_B3 * (math.pi / 180)), torch.sin(degrees_B3 * (math.pi / 180))
    one, zero = torch.ones_like(cos[:, 0]), torch.zeros_like(cos[:, 0])
    about_x = [one, zero, zero, zero, cos[:, 0], -sin[:, 0], zero, sin[:, 0], cos[:, 0]]
    about_y = [cos[:, 1], zero, sin[:, 1], zero, one, zero, -sin[:, 1], zero, cos[:, 1]]
    about_z = [cos[:, 2], -sin[:, 2], zero, sin[:, 2], cos[:, 2], zero, zero, zero, one]
    x, y, z = (torch.stack(m, 1).reshape(-1, 3, 3) for m in (about_x, about_y, about_z))
    return z @ y @ x


class HeadGeometry(nn.Module):
    """Where a pixel of the target view lies in the reference view, given depth and head/neck blend."""

    grid: Tensor
    pivot: Tensor

    def __init__(self, config: EditReposeGeneratorConfig, image_px: int, map_px: int) -> None:
        super().__init__()
        self.image_px = image_px
        self.map_px = map_px
        self.distance = config.camera_distance
        self.height = config.camera_height
        self.focal_px = config.focal_ratio * image_px
        self.register_buffer("grid", pixel_grid(map_px, map_px) * (image_px / map_px), persistent=False)
        self.register_buffer("pivot", torch.tensor(config.pivot), persistent=False)

    def forward(self, depth_blend_B2HW: Tensor, target_pose_B6: Tensor, reference_pose_B6: Tensor) -> Tensor:
        """Position (B, 2, H, W) in the reference, in pixels of the full image.

        Channel 0 is depth z in head units (towards the camera positive), channel 1 how far the point follows
        the head (1) rather than the body (0). Poses are degrees and head units.
        """
        return self._project(self._moved(self.grid, depth_blend_B2HW, target_pose_B6, reference_pose_B6))

    def look_up(
        self, guess_B2HW: Tensor, known_BCHW: Tensor, target_pose_B6: Tensor, reference_pose_B6: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A guess of the target's depth and blend, mended by the reference's: one fixed-point step.

        Second (B, 1, H, W): how far, in head units, the surface that the reference shows there lies before
        the point that was guessed; what is well above 0 hides it. Third: what else is known there.
        """
        moved = self._moved(self.grid, guess_B2HW, target_pose_B6, reference_pose_B6)
        position = self._project(moved)
        found = sample(known_BCHW, position * (known_BCHW.shape[3] / self.image_px))
        before = found[:, :1] - moved[:, 2:].reshape(-1, 1, self.map_px, self.map_px)
        mended = self.carry_over(position, found[:, :2], target_pose_B6, reference_pose_B6)
        return mended, before, found[:, 2:]

    def _project(self, points_B3P: Tensor) -> Tensor:
        """Positions (B, 2, H, W) in the picture of points in space."""
        half = self.image_px / 2
        per_unit = self.focal_px / (self.distance - points_B3P[:, 2:])
        u = half + points_B3P[:, :1] * per_unit
        v = half - (points_B3P[:, 1:2] - self.height) * per_unit
        return torch.cat([u, v], 1).reshape(-1, 2, self.map_px, self.map_px)

    def carry_over(
        self, position_B2HW: Tensor, found_B2HW: Tensor, target_pose_B6: Tensor, reference_pose_B6: Tensor
    ) -> Tensor:
        """Depth and blend (B, 2, H, W) of the target view, from those found at positions of the reference.

        Where the positions are right this is the target's own depth; where they are nearly right it is a
        better guess than the one they were computed from.
        """
        moved = self._moved(position_B2HW, found_B2HW, reference_pose_B6, target_pose_B6)
        return torch.cat([moved[:, 2:].reshape(-1, 1, self.map_px, self.map_px), found_B2HW[:, 1:]], 1)

    @staticmethod
    def turned(normal_B3HW: Tensor, follow_B1HW: Tensor, from_pose_B6: Tensor, to_pose_B6: Tensor) -> Tensor:
        """Unit normals (B, 3, H, W) as they point after the head has gone from one pose to the other."""
        turn = rotation_matrix(to_pose_B6[:, :3]) @ rotation_matrix(from_pose_B6[:, :3]).transpose(1, 2)
        with_head = (turn @ normal_B3HW.flatten(2)).reshape(normal_B3HW.shape)
        return F.normalize(normal_B3HW + follow_B1HW.clamp(0, 1) * (with_head - normal_B3HW), dim=1)

    def _moved(
        self, position_B2HW: Tensor, depth_blend_B2HW: Tensor, from_pose_B6: Tensor, to_pose_B6: Tensor
    ) -> Tensor:
        """Points in space (B, 3, H W) seen at pixel positions in one pose, where they are in the other."""
        batch, half = depth_blend_B2HW.shape[0], self.image_px / 2
        z = depth_blend_B2HW[:, :1].clamp(-4, 6)
        follow = depth_blend_B2HW[:, 1:2].clamp(0, 1).reshape(batch, 1, -1)
        scale = (self.distance - z) / self.focal_px
        x = (position_B2HW[:, :1] - half) * scale
        y = self.height - (position_B2HW[:, 1:] - half) * scale
        origin = self.pivot + from_pose_B6[:, 3:]
        point = torch.cat([x, y, z], 1).reshape(batch, 3, -1) - origin[:, :, None]
        turned = rotation_matrix(from_pose_B6[:, :3])
        trace = turned[:, 0, 0] + turned[:, 1, 1] + turned[:, 2, 2]
        cos_angle = ((trace - 1) / 2)[:, None, None]
        straight = (1 - follow) * point + follow * (turned.transpose(1, 2) @ point)
        straight = straight / (1 - 2 * follow * (1 - follow) * (1 - cos_angle))
        moved = (1 - follow) * straight + follow * (rotation_matrix(to_pose_B6[:, :3]) @ straight)
        return moved + (self.pivot + to_pose_B6[:, 3:])[:, :, None]


def _conv_norm(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def light_terms(normal_B3HW: Tensor) -> Tensor:
    """Spherical harmonics (B, 9, H, W) of unit normals, without their constant factors."""
    x, y, z = torch.split(normal_B3HW, 1, 1)
    return torch.cat([torch.ones_like(x), x, y, z, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], 1)


def relighting(light_B3K: Tensor, before_B3HW: Tensor, after_B3HW: Tensor) -> Tensor:
    """Gain (B, 3, H, W) of surfaces that turn from one normal to another under a light.

    Brightness as a function of the normal is a quadratic form for any distant light (Ramamoorthi and Hanrahan
    2001); what the surface itself reflects cancels out.
    """
    shape = after_B3HW.shape
    after = (light_B3K @ light_terms(after_B3HW).flatten(2)).clamp_min(0.1)
    before = (light_B3K @ light_terms(before_B3HW).flatten(2)).clamp_min(0.1)
    return (after / before).clamp(0.25, 4.0).reshape(shape)


class ReferenceLight(nn.Module):
    """Appearance maps of a portrait -> the light on it: harmonics (B, 3, 9) of red, green and blue."""

    ambient: Tensor

    def __init__(self, config: EditReposeGeneratorConfig, map_16_px: int) -> None:
        super().__init__()
        self.conv = _conv_norm(config.reference_channels[2], 32, 2)
        self.codes = nn.Sequential(
            nn.Linear(32 * (map_16_px // 2) ** 2, 64), nn.ReLU(), nn.Linear(64, 3 * LIGHT_TERMS)
        )
        last = self.codes[2]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, 0, 0.01)
        nn.init.zeros_(last.bias)
        self.register_buffer("ambient", torch.eye(1, LIGHT_TERMS)[:, None], persistent=False)

    def forward(self, map_16: Tensor) -> Tensor:
        light: Tensor = self.ambient + self.codes(self.conv(map_16).flatten(1)).reshape(-1, 3, LIGHT_TERMS)
        return light


class ReferenceDepth(nn.Module):
    """Appearance maps of a portrait -> depth (less the head's translation z), head/neck blend, normals."""

    def __init__(self, config: EditReposeGeneratorConfig, side: int) -> None:
        super().__init__()
        maps, widths = config.reference_channels, config.depth_channels
        self.conv_16 = _conv_norm(maps[2], widths[0])
        self.conv_8 = nn.Sequential(
            _conv_norm(widths[0] + maps[1], widths[1]), _conv_norm(widths[1], widths[1])
        )
        self.conv_4 = nn.Sequential(
            _conv_norm(widths[1] + maps[0], widths[2]), _conv_norm(widths[2], widths[2])
        )
        self.out = nn.Conv2d(widths[2], 2, 3, 1, 1)
        self.normal = nn.Conv2d(widths[2], 3, 3, 1, 1)
        self.mean = nn.Parameter(torch.zeros(1, 2, side, side))
        self.mean_normal = nn.Parameter(
            torch.tensor([0.0, 0.0, 1.0]).reshape(1, 3, 1, 1).repeat(1, 1, side, side)
        )
        nn.init.normal_(self.out.weight, 0, 0.01)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def set_mean(self, depth_blend_2HW: Tensor) -> None:
        """Start from the data set's mean depth and blend."""
        with torch.no_grad():
            self.mean.copy_(F.interpolate(depth_blend_2HW[None], self.mean.shape[2:], mode="bilinear"))

    def forward(self, maps: Maps) -> tuple[Tensor, Tensor]:
        """Depth and blend (B, 2, 64, 64) and unit normals (B, 3, 64, 64), from maps at 1/4, 1/8 and 1/16."""
        map_4, map_8, map_16 = maps
        x = self.conv_8(torch.cat([_upsample(self.conv_16(map_16)), map_8], 1))
        x = self.conv_4(torch.cat([_upsample(x), map_4], 1))
        depth_blend: Tensor = self.mean + 0.2 * self.out(x)
        return depth_blend, F.normalize(self.mean_normal + self.normal(x), dim=1)


class ReferenceEncoder(nn.Module):
    """Everything the generator needs of the portraits; run once per identity."""

    def __init__(self, config: GcavtConfig) -> None:
        super().__init__()
        generator = config.generator
        assert isinstance(generator, EditReposeGeneratorConfig)
        self.crop_size = (generator.crop_height_px, generator.crop_width_px)
        fine, half, quarter, eighth = generator.editor_channels
        self.editor_1 = _conv_norm(6, fine)
        self.editor_2 = nn.Sequential(nn.AvgPool2d(2), _conv_norm(fine, half), _conv_norm(half, half))
        self.editor_4 = nn.Sequential(
            nn.AvgPool2d(2), _conv_norm(half, quarter), _conv_norm(quarter, quarter)
        )
        self.editor_8 = nn.Sequential(
            nn.AvgPool2d(2), _conv_norm(quarter, eighth), _conv_norm(eighth, eighth)
        )
        # the parts of the editor's decoder that see only the reference
        self.skip_2 = nn.Conv2d(half, half, 3, 1, 1)
        self.skip_1 = nn.Conv2d(fine, half, 4, 2, 1, bias=False)
        nn.init.zeros_(self.skip_1.weight)
        self.skip_4 = nn.Conv2d(quarter, quarter, 3, 1, 1)
        maps = generator.reference_channels
        self.map_4 = nn.Sequential(
            _conv_norm(3, 16, 2), _conv_norm(16, maps[0], 2), _conv_norm(maps[0], maps[0])
        )
        self.map_8 = nn.Sequential(_conv_norm(maps[0], maps[1], 2), _conv_norm(maps[1], maps[1]))
        self.map_16 = nn.Sequential(_conv_norm(maps[1], maps[2], 2), _conv_norm(maps[2], maps[2]))
        self.depth = ReferenceDepth(generator, config.image_px // 4)
        self.side_depth = ReferenceDepth(generator, config.image_px // 4)
        self.light = ReferenceLight(generator, config.image_px // 16)
        self.register_buffer("crop_grid", pixel_grid(*self.crop_size), persistent=False)

    crop_grid: Tensor

    def crop(self, image_BCHW: Tensor, origin_B2: Tensor) -> Tensor:
        """The face crop whose top left pixel is `origin` (x, y)."""
        return sample(image_BCHW, self.crop_grid + origin_B2[:, :, None, None])

    def encode_crops(self, crops_B6HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Editor features at 1/2, 1/4 and 1/8 of the crop."""
        x1 = self.editor_1(crops_B6HW)
        x2 = self.editor_2(x1)
        x4 = self.editor_4(x2)
        return self.skip_2(x2) + self.skip_1(x1), self.skip_4(x4), self.editor_8(x4)

    def encode_maps(self, portrait_B3HW: Tensor) -> Maps:
        """Appearance maps at 1/4, 1/8 and 1/16 of the portrait, for the re-poser."""
        map_4 = self.map_4(portrait_B3HW)
        map_8 = self.map_8(map_4)
        return map_4, map_8, self.map_16(map_8)

    def surface(self, maps: Maps) -> tuple[Tensor, Tensor, Tensor]:
        """Depth and blend, normals, and the light on them."""
        return *self.depth(maps), self.light(maps[2])

    def encode_portraits(self, primary_B3HW: Tensor, sides_B6HW: Tensor) -> tuple[Maps, Maps]:
        """Appearance maps of the primary, and of the left sides followed by the right ones in a mirror (2 B).

        So one network knows turned heads. The statistics that the maps are normalised by are the primaries'.
        """
        left, right = torch.split(sides_B6HW, 3, 1)
        maps = self.encode_maps(primary_B3HW)
        networks = (self.map_4, self.map_8, self.map_16)
        were_training = [network.training for network in networks]
        for network in networks:
            network.eval()
        side_maps = self.encode_maps(torch.cat([left, right.flip(3)]))
        for network, was_training in zip(networks, were_training, strict=True):
            network.train(was_training)
        return maps, side_maps

    def side_surfaces(self, maps: Maps) -> Tensor:
        """Depth, blend and normals of both sides (B, 10, 64, 64), from their maps of `encode_portraits`."""
        depth, normal = self.side_depth(maps)
        n = depth.shape[0] // 2
        mirror = normal.new_tensor([-1.0, 1.0, 1.0])[None, :, None, None]
        return torch.cat([depth[:n], normal[:n], depth[n:].flip(3), normal[n:].flip(3) * mirror], 1)

    def forward(
        self, primary_image: Tensor, secondary_image: Tensor, crop_origin: Tensor, side_images: Tensor
    ) -> tuple[Tensor, ...]:
        """The reference state, in the order of `reference_state_shapes`.

        Images are (B, 3, 256, 256) in [0, 1] on black; side_images (B, 6, 256, 256) is the head turned to the
        picture's left, then to its right. Give the primary in place of what is missing.
        crop_origin (B, 4) is x, y of the primary's crop, then of the secondary's, in whole pixels.
        """
        crops = torch.cat(
            [self.crop(primary_image, crop_origin[:, :2]), self.crop(secondary_image, crop_origin[:, 2:])], 1
        )
        maps, side_maps = self.encode_portraits(primary_image, side_images)
        surfaces = (*self.surface(maps), side_images, self.side_surfaces(side_maps))
        return (primary_image, crops, *self.encode_crops(crops), *maps, *surfaces)


class _DecoderBlock(nn.Module):
    """Convolution, then AdaIN and ReLU, twice; the first convolution runs before the upsampling."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.channels = channels_out
        self.conv_1 = nn.Conv2d(channels_in, channels_out, 3, 1, 1, bias=False)
        self.conv_2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)

    @property
    def affine_count(self) -> int:
        return 4 * self.channels

    def forward(self, x: Tensor, affine: Tensor, skip: Tensor | None = None) -> Tensor:
        shift_1, scale_1, shift_2, scale_2 = torch.split(affine, self.channels, 1)
        y = self.conv_1(x)
        if skip is not None:
            y = _upsample(y) + skip
        y = self.conv_2(adain_relu(y, scale_1 + 1, shift_1))
        return adain_relu(y, scale_2 + 1, shift_2)


class Edit(NamedTuple):
    """What the editor decided, at the crop's full size; positions and flow in pixels."""

    flow: Tensor
    """(B, 2, H, W) from the edited crop to the primary's crop."""
    secondary_flow: Tensor
    """(B, 2, H, W) to the secondary's crop."""
    secondary_weight: Tensor
    """(B, 1, H, W) share of the secondary in the warped picture."""
    paint: Tensor
    """(B, 3, H, W) newly painted colours."""
    paint_weight: Tensor
    """(B, 1, H, W) share of the paint."""


class Editor(nn.Module):
    """Expression and content codes -> an edit of the reference crop, at the reference's pose."""

    feather: Tensor
    grid: Tensor

    def __init__(self, config: GcavtConfig) -> None:
        super().__init__()
        generator = config.generator
        assert isinstance(generator, EditReposeGeneratorConfig)
        fine, half, quarter, eighth = generator.editor_channels
        self.decode_8 = _DecoderBlock(eighth, eighth)
        self.decode_4 = _DecoderBlock(eighth, quarter)
        self.decode_2 = _DecoderBlock(quarter, half)
        self.counts = [b.affine_count for b in (self.decode_8, self.decode_4, self.decode_2)]
        self.affine = nn.Sequential(
            nn.Linear(config.expression_dim + config.content_dim, 256),
            nn.ReLU(),
            nn.Linear(256, sum(self.counts)),
        )
        self.flow_4 = nn.Conv2d(quarter, 4, 3, 1, 1)
        # flow at half size, and weights and paint at full size: five channels for each of 2 x 2 pixels
        self.head = nn.Conv2d(half, 4 + 5 * 4, 3, 1, 1)
        last = self.affine[2]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, 0, 0.02)
        nn.init.zeros_(last.bias)
        for conv in (self.flow_4, self.head):
            nn.init.zeros_(conv.weight)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        height, width = generator.crop_height_px, generator.crop_width_px
        self.register_buffer("feather", _feather(height, width, 10), persistent=False)
        self.register_buffer("grid", pixel_grid(height, width), persistent=False)

    def forward(
        self,
        expression_code: Tensor,
        content_code: Tensor,
        crops: Tensor,
        features: tuple[Tensor, Tensor, Tensor],
    ) -> Edit:
        affine = torch.split(self.affine(torch.cat([expression_code, content_code], 1)), self.counts, 1)
        half, quarter, eighth = features
        y8 = self.decode_8(eighth, affine[0])
        y4 = self.decode_4(y8, affine[1], quarter)
        y2 = self.decode_2(y4, affine[2], half)
        flow_2, fine = torch.split(self.head(y2), [4, 20], 1)
        flow = _upsample_smooth(_upsample_smooth(self.flow_4(y4)) + flow_2) * self.feather
        flow_1, flow_2 = torch.split(flow, 2, 1)
        weights, paint = torch.split(F.pixel_shuffle(fine, 2), [2, 3], 1)
        weights = hard_sigmoid(weights - 1.5) * self.feather
        secondary_weight, paint_weight = torch.split(weights, 1, 1)
        mean = crops[:, :3].mean((2, 3), keepdim=True)
        return Edit(
            flow=flow_1,
            secondary_flow=flow_2,
            secondary_weight=secondary_weight,
            paint=mean + 0.5 * paint,
            paint_weight=paint_weight,
        )

    def compose(self, crops: Tensor, edit: Edit) -> Tensor:
        """The edited crop (B, 3, H, W)."""
        first = sample(crops[:, :3], self.grid + edit.flow)
        second = sample(crops[:, 3:], self.grid + edit.secondary_flow)
        warped = first + edit.secondary_weight * (second - first)
        return warped + edit.paint_weight * (edit.paint - warped)


def _feather(height: int, width: int, margin_px: int) -> Tensor:
    """1 inside, falling to 0 at the border over margin_px, so that a pasted crop leaves no seam."""
    y = torch.arange(height) + 0.5
    x = torch.arange(width) + 0.5
    rows = torch.minimum(y, height - y)[:, None]
    columns = torch.minimum(x, width - x)[None]
    return (torch.minimum(rows, columns) / margin_px).clamp(max=1)[None, None]


class _ReposerBlock(nn.Module):
    """AdaIN, ReLU, convolution, [nearest x2], AdaIN, ReLU, convolution, plus a skip."""

    def __init__(self, channels_in: int, channels_out: int, upsample: bool) -> None:
        super().__init__()
        self.channels_in, self.channels_out, self.upsample = channels_in, channels_out, upsample
        self.conv_1 = nn.Conv2d(channels_in, channels_out, 3, 1, 1, bias=False)
        self.conv_2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()
        nn.init.normal_(self.conv_2.weight, 0, 0.5 / math.sqrt(9 * channels_out))

    @property
    def affine_count(self) -> int:
        return 2 * (self.channels_in + self.channels_out)

    def forward(self, x: Tensor, affine: Tensor) -> Tensor:
        sizes = [self.channels_in, self.channels_in, self.channels_out, self.channels_out]
        shift_1, scale_1, shift_2, scale_2 = torch.split(affine, sizes, 1)
        y = self.conv_1(adain_relu(x, scale_1 + 1, shift_1))
        skip = self.skip(x)
        if self.upsample:
            y, skip = _upsample(y), _upsample(skip)
        result: Tensor = self.conv_2(adain_relu(y, scale_2 + 1, shift_2)) + skip
        return result


class Sides(NamedTuple):
    """Two more portraits, of the head turned to the picture's left and to its right."""

    poses: Tensor
    """(B, 12) as reference_pose, left then right; what is missing has the primary's."""
    images: Tensor
    """(B, 6, 256, 256)."""
    surfaces: Tensor
    """(B, 10, 64, 64) depth less the head's translation z, blend and normals of each."""


class _Side(NamedTuple):
    """The one of them that is of use, as `Reposer` picks it."""

    pose: Tensor
    image: Tensor
    known: Tensor
    """(B, 5, 64, 64) depth, blend and normals."""
    use: Tensor
    """(B, 1, 1, 1) 0 where the target is not turned, or the side portrait is not; else up to 1."""


class Repose(NamedTuple):
    """What the re-poser puts out, with the geometry that training supervises."""

    image: Tensor
    """(B, 3, 256, 256), multiplied by the mask."""
    mask: Tensor
    """(B, 1, 256, 256) in [0, 1]."""
    depth_blend_64: Tensor
    """(B, 2, 64, 64) depth and head/neck blend of the target view, as carried over from the reference."""
    depth_blend_128: Tensor
    """(B, 2, 128, 128)."""
    position_128: Tensor
    """(B, 2, 128, 128) where each target pixel lies in the reference, in pixels of the full image."""
    normal_64: Tensor
    """(B, 3, 64, 64) unit normals of the target view."""
    lit: Tensor
    """(B, 3, 256, 256) the warped portraits under the target's light, before anything is painted."""
    keep: Tensor
    """(B, 1, 256, 256) how much of it is kept in the image; the rest is paint."""


class Reposer(nn.Module):
    """Edited picture + pose -> the target view."""

    def __init__(self, config: GcavtConfig) -> None:
        super().__init__()
        generator = config.generator
        assert isinstance(generator, EditReposeGeneratorConfig)
        widths, maps = generator.reposer_channels, generator.reference_channels
        side = config.image_px
        self.constant = nn.Parameter(torch.randn(1, widths[0], side // 32, side // 32) * 0.3)
        self.enter = nn.Conv2d(maps[2], widths[0], 1)
        blocks = [_ReposerBlock(widths[0], widths[0], False)]
        blocks += [_ReposerBlock(widths[i], widths[i + 1], True) for i in range(4)]
        self.blocks = nn.ModuleList(blocks)
        self.counts = [b.affine_count for b in blocks] + [2 * widths[4]]
        codes = config.identity_dim + config.pose_dim + 6 + config.expression_dim + config.content_dim
        self.affine = nn.Sequential(nn.Linear(codes, 256), nn.ReLU(), nn.Linear(256, sum(self.counts)))
        prior_px = side // 8
        self.prior = nn.Sequential(
            nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2 * prior_px**2)
        )
        self.prior_px = prior_px
        self.depth_64 = nn.Conv2d(widths[3], 2, 3, 1, 1)
        self.depth_128 = nn.Conv2d(widths[4], 4, 3, 1, 1)
        # a turned head is lit otherwise, and a broad gain keeps the detail that painting would blur: most of
        # it is told by normals and the portrait's light, this is for cast shadows and shine
        self.gain_64 = nn.Conv2d(widths[3], 3, 3, 1, 1)
        self.warped_32 = nn.Conv2d(maps[1], widths[2], 1)
        self.warped_64 = nn.Conv2d(maps[0], widths[3], 1)
        self.normals_64 = nn.Conv2d(6, widths[3], 1)
        self.warped_128 = nn.Conv2d(3, widths[4], 4, 2, 1)
        # five channels for each of 2 x 2 pixels
        self.out = nn.Conv2d(widths[4], 5 * 4, 3, 1, 1)
        # the side portrait's share: told by what hides what, then by the features
        self.side_cues_64 = nn.Conv2d(5, 1, 1)
        self.side_share_64 = nn.Conv2d(widths[3], 1, 3, 1, 1)
        self.side_share_128 = nn.Conv2d(widths[4], 1, 3, 1, 1)
        self.side_64 = nn.Conv2d(9, widths[3], 1)
        self.geometry_32 = HeadGeometry(generator, side, side // 8)
        self.geometry_64 = HeadGeometry(generator, side, side // 4)
        self.geometry_128 = HeadGeometry(generator, side, side // 2)
        for layer, std in ((self.affine[2], 0.02), (self.prior[4], 0.01), (self.out, 0.02)):
            assert isinstance(layer, nn.Linear | nn.Conv2d)
            nn.init.normal_(layer.weight, 0, std)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        sides = (self.side_cues_64, self.side_share_64, self.side_share_128, self.side_64)
        for conv in (self.depth_64, self.depth_128, self.gain_64, self.normals_64, *sides):
            nn.init.zeros_(conv.weight)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        with torch.no_grad():  # what faces the side's camera more, or is hidden to the portrait's
            self.side_cues_64.weight[0, :3, 0, 0] = torch.tensor([4.0, 6.0, -6.0])
            assert self.side_cues_64.bias is not None
            self.side_cues_64.bias.fill_(-1.5)
        self.register_buffer("pose_scale", torch.tensor(POSE_SCALE.tolist()), persistent=False)
        self.register_buffer("image_grid", pixel_grid(side, side), persistent=False)
        self.register_buffer("prefer", torch.tensor([0.0, 1.5])[None, :, None, None], persistent=False)

    pose_scale: Tensor
    image_grid: Tensor
    prefer: Tensor
    """Where the mask and the share of the warped picture start."""

    def set_mean_geometry(self, depth_blend_2HW: Tensor) -> None:
        """Start from the data set's mean depth (less the head's translation z) and blend (2, 32, 32)."""
        last = self.prior[4]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.copy_(depth_blend_2HW.reshape(-1))

    def forward(
        self,
        edited_B3HW: Tensor,
        primary_B3HW: Tensor,
        maps: Maps,
        surface: tuple[Tensor, Tensor, Tensor],
        identity_code: Tensor,
        pose_code: Tensor,
        expression_code: Tensor,
        content_code: Tensor,
        reference_pose: Tensor,
        crop_origin: Tensor,
        sides: Sides,
    ) -> Repose:
        target_pose = pose_code[:, :6] * self.pose_scale
        reference_code = reference_pose / self.pose_scale
        codes = torch.cat([identity_code, pose_code, reference_code, expression_code, content_code], 1)
        affine = torch.split(self.affine(codes), self.counts, 1)
        guess = self.prior(pose_code[:, :6]).reshape(-1, 2, self.prior_px, self.prior_px)
        guess = guess + F.pad(target_pose[:, 5:6], (0, 1))[:, :, None, None]
        reference_depth, reference_normal, light = surface
        known = reference_depth + F.pad(reference_pose[:, 5:6], (0, 1))[:, :, None, None]
        known = torch.cat([known, reference_normal], 1)
        poses = target_pose, reference_pose
        side = _pick_side(sides, *poses)
        side_poses = target_pose, side.pose
        depth_32, _, _ = self.geometry_32.look_up(guess, known, *poses)
        depth_64, hidden, facing = self.geometry_64.look_up(_upsample_smooth(depth_32), known, *poses)
        side_depth, _, _ = self.geometry_32.look_up(guess, side.known, *side_poses)
        side_depth, side_hidden, side_facing = self.geometry_64.look_up(
            _upsample_smooth(side_depth), side.known, *side_poses
        )
        faces = ((facing[:, 2:] - FACES_FROM) / (FACES_FULLY - FACES_FROM)).clamp(0, 1)
        is_shown = ((1 - HIDES * hidden).clamp(0, 1) * faces).detach()
        # the side portrait's face is at rest: eyes and lips come from the portrait alone, where it shows them
        shows_face = in_face(self.geometry_64(depth_64, *poses), crop_origin[:, :2])
        side_use = side.use * (1 - shows_face * is_shown).detach()
        # told as they are: with a gradient, depth would be bent until it tells what is of use
        cues = torch.cat([hidden, side_hidden, side_depth - depth_64], 1).clamp(-0.5, 0.5)
        cues = torch.cat([side_facing[:, 2:] - facing[:, 2:], cues], 1).detach()
        map_4, map_8, map_16 = maps
        x = self.constant + F.avg_pool2d(self.enter(map_16), 2)
        for block, values in zip(self.blocks[:3], affine[:3], strict=True):
            x = block(x, values)
        x = x + self.warped_32(sample(map_8, self.geometry_32(depth_32, *poses) / 8))
        x = self.blocks[3](x, affine[3])
        side_logit = self.side_cues_64(cues) + self.side_share_64(x)
        side_share = hard_sigmoid(side_logit) * side_use
        depth_64 = depth_64 + side_share * (side_depth - depth_64)
        refined_64 = depth_64 + self.depth_64(x) * 0.2
        found = sample(torch.cat([reference_normal, map_4], 1), self.geometry_64(refined_64, *poses) / 4)
        before = F.normalize(found[:, :3], dim=1)
        normal = self.geometry_64.turned(before, refined_64[:, 1:], reference_pose, target_pose)
        side_position = self.geometry_64(refined_64, *side_poses)
        side_before = F.normalize(sample(side.known[:, 2:], side_position / 4), dim=1)
        side_normal = self.geometry_64.turned(side_before, refined_64[:, 1:], side.pose, target_pose)
        normal = F.normalize(normal + side_share * (side_normal - normal), dim=1)
        x = x + self.warped_64(found[:, 3:]) + self.normals_64(torch.cat([before, normal], 1))
        x = x + self.side_64(torch.cat([side_before, cues, side_share], 1) * side.use)
        gain, side_gain = relighting(light, before, normal), relighting(light, side_before, normal)
        gain = (gain + side_share * (side_gain - gain)) * (1 + self.gain_64(x))
        x = self.blocks[4](x, affine[4])
        refine = self.depth_128(x)
        depth_128 = _upsample_smooth(refined_64) + refine[:, :2] * 0.1
        position = self.geometry_128(depth_128, *poses) + refine[:, 2:]
        side_position = self.geometry_128(depth_128, *side_poses)
        side_logit = _upsample_smooth(side_logit) + self.side_share_128(x)
        side_share = hard_sigmoid(side_logit) * _upsample_smooth(side_use)
        flow, side_flow = position - self.geometry_128.grid, side_position - self.geometry_128.grid
        # all at once: a CPU enlarges eight channels in the time of one
        twice = _upsample_smooth(torch.cat([gain, is_shown], 1))
        enlarged = _upsample_smooth(torch.cat([flow, side_flow, side_share, twice], 1))
        flow, side_flow, side_share, gain, is_shown = torch.split(enlarged, [2, 2, 1, 3, 1], 1)
        # a portrait often cuts the hair: mirrored at the edge it goes on, held there it would streak
        portraits = torch.cat([edited_B3HW, primary_B3HW], 1)
        warped = sample(portraits, self.image_grid + flow, padding="reflection")
        edited, unedited = warped.chunk(2, 1)
        side_warped = sample(side.image, self.image_grid + side_flow, padding="reflection")
        shift, scale = affine[-1].chunk(2, 1)
        # what the side portrait lends changes as the portrait does, where that shows how
        lent = side_warped + is_shown * (edited - unedited)
        lit = (edited + side_share * (lent - edited)) * gain
        x = adain_relu(x + self.warped_128(lit), scale + 1, shift)
        weights, paint = torch.split(F.pixel_shuffle(self.out(x), 2), [2, 3], 1)
        mask, keep = torch.split(hard_sigmoid(weights + self.prefer), 1, 1)
        painted = paint + 0.5
        rgb = painted + keep * (lit - painted)
        return Repose(rgb * mask, mask, depth_64, depth_128, position, normal, lit, keep)


def in_face(position_B2HW: Tensor, origin_B2: Tensor) -> Tensor:
    """(B, 1, H, W) 1 where a position in the portrait lies between brows, cheeks and chin, 0 well outside."""
    from_centre = position_B2HW - (origin_B2 + origin_B2.new_tensor(FACE_CENTRE_PX))[:, :, None, None]
    size = origin_B2.new_tensor(FACE_RADII_PX)[None, :, None, None]
    distance = ((from_centre / size) ** 2).sum(1, keepdim=True)
    return ((FACE_FADE - distance) / (FACE_FADE - 1)).clamp(0, 1)


def _pick_side(sides: Sides, target_pose_B6: Tensor, reference_pose_B6: Tensor) -> _Side:
    """The side that the target is turned to, from the portrait's pose; at rest neither is of use."""
    turn = target_pose_B6[:, 1:2] - reference_pose_B6[:, 1:2]
    is_left = turn < 0

    def of(both: Tensor) -> Tensor:
        left, right = both.chunk(2, 1)
        return torch.where(is_left.reshape(-1, *[1] * (both.dim() - 1)), left, right)

    pose, surface = of(sides.poses), of(sides.surfaces)
    side_turn = (pose[:, 1:2] - reference_pose_B6[:, 1:2]) * torch.where(is_left, -1.0, 1.0)
    needed = ((turn.abs() - SIDE_FROM_DEG) / (SIDE_FULL_DEG - SIDE_FROM_DEG)).clamp(0, 1)
    use = needed * (side_turn / SIDE_LEAST_DEG).clamp(0, 1)
    known = surface + F.pad(pose[:, 5:6], (0, 4))[:, :, None, None]
    return _Side(pose, of(sides.images), known, use[:, :, None, None])


class EditReposeGenerator(nn.Module):
    """Four codes and the reference state in, image and mask out. Lite's default member."""

    def __init__(self, config: GcavtConfig) -> None:
        super().__init__()
        self.reference_encoder = ReferenceEncoder(config)
        self.editor = Editor(config)
        self.reposer = Reposer(config)
        self.state_names = tuple(reference_state_shapes(config))
        side = config.image_px
        self.register_buffer("image_grid", pixel_grid(side, side), persistent=False)

    image_grid: Tensor

    def paste(self, primary: Tensor, change_BCHW: Tensor, origin_B2: Tensor) -> Tensor:
        """Add the change of a crop to the portrait it was cut from."""
        position = self.image_grid - origin_B2[:, :, None, None]
        return primary + sample(change_BCHW, position, padding="zeros")

    def edit(
        self, expression_code: Tensor, content_code: Tensor, crop_origin: Tensor, state: tuple[Tensor, ...]
    ) -> Tensor:
        """The portrait (B, 3, 256, 256) with the face of the codes, at the reference's pose."""
        primary, crops = state[0], state[1]
        edit = self.editor(expression_code, content_code, crops, state[2:5])
        change = self.editor.compose(crops, edit) - crops[:, :3]
        return self.paste(primary, change, crop_origin[:, :2])

    def forward(
        self,
        identity_code: Tensor,
        pose_code: Tensor,
        expression_code: Tensor,
        content_code: Tensor,
        reference_pose: Tensor,
        crop_origin: Tensor,
        side_poses: Tensor,
        *state: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Image (B, 3, 256, 256) in [0, 1] on black, and mask (B, 1, 256, 256).

        reference_pose (B, 6) and side_poses (B, 12), left then right, in degrees and head units; `state` as
        `ReferenceEncoder` returns it.
        """
        edited = self.edit(expression_code, content_code, crop_origin, state)
        result = self.reposer(
            edited,
            state[0],
            (state[5], state[6], state[7]),
            (state[8], state[9], state[10]),
            identity_code,
            pose_code,
            expression_code,
            content_code,
            reference_pose,
            crop_origin,
            Sides(side_poses, state[11], state[12]),
        )
        return result.image.clamp(0, 1), result.mask
