"""How the head is held, read off the whole face: `lite`'s E_p.

The paper blacks brows, eyes, nose and mouth out, because there nothing else keeps the face's motion out of
the pose code. Where exact poses are taught, seeing the face is worth more. The network looks at a window
about the face, its eye line level, and says how the head is held in a camera that looks through that window;
turning and shifting a picture is a known change of the pose, so the rest of the way is computed.

It also looks up what its first layers find about each tracked landmark: a tracker errs by a few pixels, and
the picture there tells how (Xiong and De la Torre, "Supervised Descent Method and its Applications to Face
Alignment", CVPR 2013).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcavt import code_space
from gcavt.backbones.resnet_se import ResNetSE34
from gcavt.config import LANDMARK_NUMBERS, EditReposeGeneratorConfig, FacePoseEncoderConfig, GcavtConfig
from gcavt.preprocessing import FACE_WINDOW_DROP, OUTER_EYE_CORNERS, RIGID_POINTS

_MIDDLE_ABOVE_PIVOT, _MIDDLE_BEFORE_PIVOT = 0.19, 1.27
"""Where the window's middle lies on an average head that looks ahead, from the pivot, in head units."""
_POINTS, _SPACING = 3, 1 / 16
"""Features are looked up on a grid of 3 x 3 points about each landmark, so far apart (of half the window)."""
_QUARTERS = 4.0
"""`gcavt.preprocessing.pose_landmarks` are in quarters of the crop's side."""


class FacePoseEncoder(nn.Module):
    """Images as `gcavt.preprocessing.pose_input` cuts them by face_zoom, landmarks as `pose_landmarks`."""

    scale: Tensor
    offsets: Tensor

    def __init__(self, config: GcavtConfig) -> None:
        super().__init__()
        pose = config.pose
        if not isinstance(pose, FacePoseEncoderConfig):
            raise ValueError("the pose encoder of this model does not see the face")
        self.pose_dim = config.pose_dim
        self.camera = EditReposeGeneratorConfig()
        self.backbone = ResNetSE34(
            input_channels=3,
            input_rows=pose.input_px,
            output_dim=pose.features,
            widths=pose.widths,
            stem=pose.stem,
            pooling=pose.pooling,
        )
        self.head = nn.Sequential(
            nn.Linear(pose.features + LANDMARK_NUMBERS + 4, 256), nn.SiLU(), nn.Linear(256, 128), nn.SiLU()
        )
        self.local = nn.Linear(LANDMARK_NUMBERS // 2 * _POINTS**2 * pose.widths[0], pose.features)
        nn.init.zeros_(self.local.weight)
        nn.init.zeros_(self.local.bias)
        self.zoom = pose.face_zoom
        steps = (torch.arange(_POINTS) - (_POINTS - 1) / 2) * _SPACING
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        self.register_buffer("offsets", torch.stack([x, y], -1).reshape(1, 1, -1, 2), persistent=False)
        self.pose = nn.Linear(128, 6)
        nn.init.zeros_(self.pose.bias)
        nn.init.normal_(self.pose.weight, std=0.01)
        self.register_buffer("scale", torch.from_numpy(code_space.POSE_SCALE.copy()), persistent=False)

    def forward(self, image: Tensor, landmarks: Tensor) -> Tensor:
        """Images (B, 3, S, S), RGB in [0, 1], and landmarks (B, 136) to pose codes (B, 12).

        The last six numbers are 0: nothing is free where everything is taught.
        """
        code: Tensor = self.read(image, landmarks)[0]
        return code

    def read(self, image: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
        """The pose code, and what the network has seen (B, features)."""
        early = self.backbone.first_stage(image)
        features = self.backbone.rest(early)
        x, y = landmarks[:, 0::2], landmarks[:, 1::2]
        left, right = (slice(corner, corner + 1) for corner in OUTER_EYE_CORNERS)
        across_x, across_y = x[:, right] - x[:, left], y[:, right] - y[:, left]
        between = (across_x.square() + across_y.square()).sqrt().clamp_min(1e-3)
        cosine, sine = across_x / between, across_y / between
        drop, rigid = FACE_WINDOW_DROP * between, RIGID_POINTS.tolist()
        middle_x = x[:, rigid].mean(1, keepdim=True) - drop * sine
        middle_y = y[:, rigid].mean(1, keepdim=True) + drop * cosine
        x, y = x - middle_x, y - middle_y
        along, below = x * cosine + y * sine, y * cosine - x * sine
        features = features + self.local(self._about(early, torch.stack([along, below], 2)))
        eye_line = torch.atan(across_y / across_x.clamp_min(1e-3))
        known = torch.cat([features, along, below, middle_x, middle_y, eye_line, between], 1)
        seen = self.pose(self.head(known)) * self.scale
        return self._in_the_crop(seen, middle_x, middle_y, cosine, sine, eye_line), features

    def _about(self, features: Tensor, points_B682: Tensor) -> Tensor:
        """(B, 68 * 9 * C) features about landmarks (from the window's middle), of about length 1 together."""
        at = points_B682[:, :, None] * (self.zoom * 2 / _QUARTERS) + self.offsets
        found = F.grid_sample(features, at, padding_mode="border", align_corners=False)
        rows = found.flatten(1)
        return rows * (1 / math.sqrt(rows.shape[1]))

    def _in_the_crop(
        self,
        seen_B6: Tensor,
        middle_x: Tensor,
        middle_y: Tensor,
        cosine: Tensor,
        sine: Tensor,
        eye_line: Tensor,
    ) -> Tensor:
        """The pose code of what is seen through the window; all else (B, 1), cosine and sine of the eye line.

        Pitch and yaw are counted from the ray through its middle, roll from the eye line, x and y from where
        the pivot of an average head lies whose face is there.
        """
        camera = self.camera
        per_quarter = 1 / (_QUARTERS * camera.focal_ratio)
        aside, below = middle_x * cosine + middle_y * sine, middle_y * cosine - middle_x * sine
        pitch, yaw, roll, x, y, z = (seen_B6[:, at : at + 1] for at in range(6))
        pitch = pitch * (math.pi / 180) - torch.atan(below * per_quarter)
        yaw = yaw * (math.pi / 180) - torch.atan(aside * per_quarter)
        roll = roll - eye_line * (180 / math.pi)
        up = _MIDDLE_ABOVE_PIVOT * torch.cos(pitch) - _MIDDLE_BEFORE_PIVOT * torch.sin(pitch)
        ahead = _MIDDLE_ABOVE_PIVOT * torch.sin(pitch) + _MIDDLE_BEFORE_PIVOT * torch.cos(pitch)
        x, y = x - ahead * torch.sin(yaw), y - up
        distance = camera.camera_distance - camera.pivot[2] - z - ahead * torch.cos(yaw)
        # the picture's y points down, the head's up
        x, y = (
            cosine * x + sine * y + middle_x * distance * per_quarter,
            cosine * y - sine * x - middle_y * distance * per_quarter,
        )
        y = y + (camera.camera_height - camera.pivot[1])
        degrees = 180 / math.pi
        six = torch.cat([pitch * degrees, yaw * degrees, roll, x, y, z], 1) / self.scale
        return torch.cat([six, torch.zeros_like(six)[:, : self.pose_dim - 6]], 1)
