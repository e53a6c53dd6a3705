import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.errors import BadMediaError
from training.metrics.held_out import HeldOut


def test_a_frame_drawn_again_is_the_stored_one(held_out: HeldOut) -> None:
    index = held_out.sample(3, seed=0)[-1]
    stored, drawn = (
        held_out.shown(index),
        held_out.render(held_out.identity_of(index), held_out.acting(index)),
    )
    assert np.abs(stored.image.astype(float) - drawn.image).mean() < 0.1
    np.testing.assert_allclose(stored.landmarks_68, drawn.landmarks_68, atol=0.05)


def test_true_landmarks_count_pixel_centres_as_whole_numbers(held_out: HeldOut) -> None:
    index = held_out.sample(1, seed=0)[0]
    raw = held_out.triples.triple("landmarks", np.array([index]))[0]
    np.testing.assert_allclose(held_out.shown(index).landmarks_68, np.asarray(raw) - 0.5)


def test_a_mixture_takes_each_factor_from_its_own_driver(held_out: HeldOut) -> None:
    one, other = (held_out.acting(i) for i in held_out.sample(2, seed=0))
    mixed = one.driven_by(other, {"mouth"})
    np.testing.assert_array_equal(mixed.codes.content_code, other.codes.content_code)
    np.testing.assert_array_equal(mixed.codes.pose_code, one.codes.pose_code)


def test_samples_are_spread_over_people_and_drivers_are_others(held_out: HeldOut) -> None:
    chosen = held_out.sample(6, seed=0)
    assert len(set(chosen)) == 6
    assert sorted(map(held_out.identity_of, chosen)) == sorted(2 * held_out.identities)
    rng = np.random.default_rng(0)
    for step in range(1, 8):
        (other,) = held_out.of_another(chosen[0], step, rng)
        assert held_out.identity_of(other) != held_out.identity_of(chosen[0])


def test_only_the_last_people_are_held_out(rendered: Path, held_out: HeldOut) -> None:
    assert HeldOut(rendered, 2).identities == held_out.identities[-2:]


def test_pictures_of_another_renderer_are_refused(rendered: Path, tmp_path: Path) -> None:
    other = shutil.copytree(rendered, tmp_path / "other")
    targets = np.load(other / "part_00" / "target.npy", mmap_mode="r+")
    targets[:] = 255 - targets
    targets.flush()
    with pytest.raises(BadMediaError, match="another version of the renderer"):
        HeldOut(other)


def test_a_photo_shows_the_portrait_with_another_face(held_out: HeldOut) -> None:
    index = held_out.sample(1, seed=0)[0]
    image, landmarks_68 = held_out.photo(index)
    changed = np.abs(image.astype(int) - held_out.reference(index)).max(2) > 12
    assert 0.001 < changed.mean() < 0.2
    assert np.array_equal(held_out.photo(index)[0], image)
    left, top = landmarks_68.min(0)
    right, bottom = landmarks_68.max(0)
    assert 60 < left < 128 < right < 196
    assert 60 < top < 128 < bottom < 220
