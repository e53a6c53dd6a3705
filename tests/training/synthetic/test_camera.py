from dataclasses import replace

import numpy as np
import pytest

from training.synthetic.camera import LENS_SIGMA_PX, Webcam, WebcamConfig, through_lens

PERFECT = WebcamConfig(
    resolution=1.0,
    defocus_sigma_px=0.0,
    sharpening=0.0,
    shot_noise=0.0,
    read_noise=0.0,
    jpeg_quality=100,
    light_stops=0.0,
    exposure_wander_stops=0.0,
    red_gain=1.0,
    blue_gain=1.0,
    white_balance_wander=0.0,
    contrast=1.0,
    flicker=0.0,
    flicker_rows=2.0,
    flicker_per_frame=0.1,
    ghosting=0.0,
)


@pytest.fixture
def grey() -> np.ndarray:
    return np.full((64, 64, 3), 107, np.uint8)


def webcam(**changes: float) -> Webcam:
    return Webcam(replace(PERFECT, **changes), np.random.default_rng(0))  # type: ignore[arg-type]


def test_a_perfect_camera_changes_nothing(grey: np.ndarray) -> None:
    camera = webcam()
    for _ in range(5):
        assert np.abs(camera.film(grey).astype(int) - grey).max() <= 2


def test_the_same_camera_films_the_same_again_and_leaves_the_picture_alone() -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    before = image.copy()

    def film() -> np.ndarray:
        rng = np.random.default_rng(3)
        camera = Webcam(WebcamConfig.draw(rng), rng)
        return np.stack([camera.film(image) for _ in range(3)])

    assert np.array_equal(film(), film())
    assert np.array_equal(image, before)


def test_exposure_recovers_from_a_dark_room_within_seconds(grey: np.ndarray) -> None:
    camera = webcam(light_stops=-1.5)
    levels = [camera.film(grey).mean() for _ in range(75)]
    assert levels[0] < 0.7 * 107
    assert levels[-1] == pytest.approx(107, rel=0.12)


def test_mains_light_rolls_through_the_picture(grey: np.ndarray) -> None:
    camera = webcam(flicker=0.1)
    rows = np.stack([camera.film(grey).mean((1, 2)) for _ in range(2)])
    assert np.ptp(rows[0]) > 10
    assert rows[0].argmax() % 32 != rows[1].argmax() % 32


def test_noise_is_new_in_every_frame_and_focus_takes_detail(grey: np.ndarray) -> None:
    camera = webcam(shot_noise=0.04, read_noise=0.02)
    first, second = (camera.film(grey).astype(int) for _ in range(2))
    assert 3 < first.std() < 12
    assert np.abs(first - second).mean() > 2
    stripes = np.tile(np.array([[[0] * 3, [255] * 3]], np.uint8), (64, 32, 1))
    assert webcam(defocus_sigma_px=1.0).film(stripes).std() < 0.3 * stripes.std()


def test_ghosting_leaves_some_of_the_frame_before(grey: np.ndarray) -> None:
    camera = webcam(ghosting=0.3)
    camera.film(np.zeros_like(grey))
    ghosted = camera.film(grey).mean()
    assert ghosted < 0.9 * webcam().film(grey).mean()


def test_drawn_cameras_differ_and_some_are_in_the_dark() -> None:
    drawn = [WebcamConfig.draw(np.random.default_rng(seed)) for seed in range(60)]
    dim = [config for config in drawn if config.flicker > 0]
    assert 8 < len(dim) < 35
    assert min(c.shot_noise for c in dim) >= max(c.shot_noise for c in drawn if c.flicker == 0)


def test_a_lens_spreads_a_point_and_loses_no_light() -> None:
    point = np.zeros((31, 31), np.uint8)
    point[12:19, 12:19] = 200
    drawn = through_lens(point).astype(float)
    assert drawn.sum() == pytest.approx(200 * 49, rel=0.01)
    along = drawn[15] - drawn[15][::-1]
    assert np.abs(along).max() <= 1
    edge = np.diff(drawn[15, :16]) / 200
    centre = (edge * np.arange(15)).sum()
    assert np.sqrt((edge * (np.arange(15) - centre) ** 2).sum()) == pytest.approx(LENS_SIGMA_PX, abs=0.1)
