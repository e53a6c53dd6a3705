"""How the head is held, read off the whole face: `lite`'s E_p.

The paper blacks brows, eyes, nose and mouth out, because there nothing else keeps the face's motion out of
the pose code. Where exact poses are taught, seeing the face is worth more. The network looks at a window
about the face, its eye line level, and says how the head is held in a camera that looks through that window;
turning and shifting a picture is a known change of the pose, so the rest of the way is computed.

It also looks up what its first layers find about each tracked landmark.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gcavt import code_space
from gcavt.backbones.landmark_lookup import QUARTERS, InWindow, LandmarkLookup, in_window
from gcavt.backbones.resnet_se import ResNetSE34
from gcavt.config import LANDMARK_NUMBERS, EditReposeGeneratorConfig, FacePoseEncoderConfig, GcavtConfig

_MIDDLE_ABOVE_PIVOT, _MIDDLE_BEFORE_PIVOT = 0.19, 1.27
"""Where the window's middle lies on an average head that looks ahead, from the pivot, in head units."""


class FacePoseEncoder(nn.Module):
    """Images as `gcavt.preprocessing.pose_input` cuts them by face_zoom, landmarks as `pose_landmarks`."""

    scale: Tensor

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
        self.local = LandmarkLookup(pose.widths[0], pose.features)
        self.zoom = pose.face_zoom
        nn.init.zeros_(self.local.weight)
        nn.init.zeros_(self.local.bias)
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
        window = in_window(landmarks)
        features = features + self.local.about(early, window.points(self.zoom))
        place = [window.middle_x, window.middle_y, window.eye_line, window.between_eyes]
        known = torch.cat([features, window.along, window.below, *place], 1)
        seen = self.pose(self.head(known)) * self.scale
        return self._in_the_crop(seen, window), features

    def _in_the_crop(self, seen_B6: Tensor, window: InWindow) -> Tensor:
        """The pose code of what is seen through the window.

        Pitch and yaw are counted from the ray through its middle, roll from the eye line, x and y from where
        the pivot of an average head lies whose face is there.
        """
        middle_x, middle_y, cosine, sine = window.middle_x, window.middle_y, window.cosine, window.sine
        camera = self.camera
        per_quarter = 1 / (QUARTERS * camera.focal_ratio)
        aside, below = middle_x * cosine + middle_y * sine, middle_y * cosine - middle_x * sine
        pitch, yaw, roll, x, y, z = (seen_B6[:, at : at + 1] for at in range(6))
        pitch = pitch * (math.pi / 180) - torch.atan(below * per_quarter)
        yaw = yaw * (math.pi / 180) - torch.atan(aside * per_quarter)
        roll = roll - window.eye_line * (180 / math.pi)
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
