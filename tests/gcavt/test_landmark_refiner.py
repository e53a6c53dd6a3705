from dataclasses import replace

import numpy as np
import pytest
import torch

from gcavt.config import GcavtConfig, LandmarkRefinerConfig
from gcavt.landmark_refiner import DIRECTIONS, LandmarkRefiner
from gcavt.preprocessing import (
    face_landmarks,
    landmark_input,
    landmark_window,
    landmarks_in_crop,
    to_network,
    transform_points,
)
from tests.bundles import astronaut
from tests.gcavt.test_preprocessing import face_68

CONFIG = LandmarkRefinerConfig()


def test_a_fresh_one_leaves_landmarks_where_they_are() -> None:
    landmarks = torch.randn(3, 136)
    image = torch.rand(3, 3, CONFIG.input_px, CONFIG.input_px)
    assert torch.equal(LandmarkRefiner(CONFIG)(image, landmarks), landmarks)


def test_histograms_tell_which_way_brightness_rises() -> None:
    ramp = torch.linspace(0, 1, CONFIG.input_px).expand(1, 3, CONFIG.input_px, -1)
    refiner = LandmarkRefiner(CONFIG)
    for image, brightest in (
        (ramp, 0),
        (ramp.transpose(2, 3), 2),
        (ramp.flip(3), 4),
        (ramp.transpose(2, 3).flip(2), 6),
    ):
        inner = refiner.histograms(image)[0, :, 10:-10, 10:-10].mean((1, 2))
        assert int(inner.argmax()) == brightest
        assert inner[(brightest + 4) % DIRECTIONS] == 0
        steepness = 1 / (CONFIG.input_px - 1)
        assert float(inner[brightest]) == pytest.approx(steepness, rel=0.05)


def test_descriptors_are_read_at_the_landmarks() -> None:
    """A bright dot at one landmark: its descriptor alone is of full length, all others are flat skin's."""
    config = replace(CONFIG, points=1)
    refiner = LandmarkRefiner(config)
    landmarks = torch.from_numpy(face_landmarks(face_68()))[None]
    centre = np.array([0.5, config.eye_height]) * config.input_px - 0.5
    x, y = np.round(landmarks[0, 60:62].numpy() * config.eye_distance_px + centre).astype(int)
    image = torch.zeros(1, 3, config.input_px, config.input_px)
    image[:, :, y, x + 1] = 1
    values = refiner.described(refiner.histograms(image), landmarks)
    assert values.shape == (1, 68 * DIRECTIONS + 136)
    assert torch.equal(values[:, 68 * DIRECTIONS :], landmarks)
    lengths = values[0, : 68 * DIRECTIONS].reshape(68, DIRECTIONS).norm(dim=1)
    near = (landmarks.reshape(68, 2) - landmarks[0, 60:62]).norm(dim=1) < 0.1
    assert lengths[30] > 0.5
    assert lengths[~near].max() < 0.2


def test_light_and_contrast_hardly_matter() -> None:
    refiner = LandmarkRefiner(CONFIG)
    picture = astronaut()[0:256, 96:352]
    points = face_68()
    values = []
    for image in (picture, (picture * 0.5 + 60).astype(np.uint8)):
        seen = torch.from_numpy(to_network(landmark_input(image, points, CONFIG)))[None]
        values.append(
            refiner.described(refiner.histograms(seen), torch.from_numpy(face_landmarks(points))[None])
        )
    gap = (values[0] - values[1]).norm() / values[0].norm()
    assert gap < 0.15


def test_the_window_shows_landmarks_as_face_landmarks_has_them() -> None:
    points = face_68() @ np.array([[0.96, 0.28], [-0.28, 0.96]], np.float32) * 1.3
    found = transform_points(points, landmark_window(points, CONFIG))
    centre = np.array([0.5, CONFIG.eye_height]) * CONFIG.input_px - 0.5
    np.testing.assert_allclose(
        (found - centre) / CONFIG.eye_distance_px, face_landmarks(points).reshape(68, 2), atol=1e-4
    )


def test_landmarks_come_back_to_the_crop() -> None:
    points = face_68()
    np.testing.assert_allclose(landmarks_in_crop(face_landmarks(points), points), points, atol=1e-3)


def test_its_config_survives_json_and_models_without_it_have_none() -> None:
    refined = GcavtConfig.lite_refined()
    assert GcavtConfig.from_dict(refined.to_dict()) == refined
    older = refined.to_dict()
    del older["refiner"]
    assert GcavtConfig.from_dict(older) == replace(refined, refiner=None)
