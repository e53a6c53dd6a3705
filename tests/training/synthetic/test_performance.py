import numpy as np
import pytest

from training.synthetic.performance import (
    VISEME_NAMES,
    VISEMES,
    random_expression,
    random_mouth,
    random_pose,
    viseme_matrix,
    viseme_track,
    visemes_of,
    weight_vector,
)


def test_viseme_track_sums_to_one_in_every_frame() -> None:
    track = viseme_track([("h", 0.1, 0.2), ("ə", 0.2, 0.3), ("l", 0.3, 0.35), ("oʊ", 0.35, 0.6)], 50)
    assert track.shape == (50, len(VISEMES))
    assert np.allclose(track.sum(1), 1, atol=1e-6)


def test_silence_closes_the_mouth() -> None:
    track = viseme_track([("ɑ", 0.1, 0.2)], 50)
    assert track[25:, VISEME_NAMES.index("sil")].min() == 1
    assert (track @ viseme_matrix())[25:].max() == 0


def test_a_sound_peaks_in_the_middle_of_its_time() -> None:
    track = viseme_track([("b", 0.4, 0.6)], 25)
    assert track[:, VISEME_NAMES.index("PP")].argmax() in (11, 12, 13)


def test_diphthong_becomes_two_visemes_and_stress_is_ignored() -> None:
    assert [v for v, _, _ in visemes_of([("ˈaɪ", 0.0, 1.0)])] == ["aa", "ih"]
    assert visemes_of([("tʃ", 0.0, 0.1), ("", 0.1, 0.2)]) == [("CH", 0.0, 0.1), ("sil", 0.1, 0.2)]


def test_random_draws_follow_their_seed_and_stay_in_range() -> None:
    def draw() -> list[np.ndarray]:
        rng = np.random.default_rng(3)
        return [f(rng) for _ in range(20) for f in (random_pose, random_expression, random_mouth)]

    first, second = draw(), draw()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    weights = np.stack([v for v in first if len(v) == 52])
    assert weights.min() >= 0 and weights.max() <= 1


def test_unknown_coefficient_is_refused() -> None:
    with pytest.raises(ValueError, match="smile"):
        weight_vector({"smile": 1.0})
