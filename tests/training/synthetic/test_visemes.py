import numpy as np
import pytest

from gcavt.code_space import COEFFICIENTS
from training.synthetic.bank import studio
from training.synthetic.identity import Identity
from training.synthetic.performance import random_mouth
from training.synthetic.renderer import Render, Renderer
from training.synthetic.truth import landmarks
from training.synthetic.visemes import (
    VISEME_NAMES,
    VISEMES,
    sounds_of,
    viseme_matrix,
    viseme_track,
    visemes_of,
)

UPPER_INNER_LIP, LOWER_INNER_LIP = 13, 14


@pytest.fixture(scope="module")
def mouths(identity: Identity) -> dict[str, Render]:
    renderer = Renderer(identity, studio())
    return {
        name: renderer.render(weights, np.zeros(6))
        for name, weights in zip(VISEME_NAMES, viseme_matrix(), strict=True)
    }


def weight(name: str) -> int:
    return COEFFICIENTS.index(name)


def test_viseme_track_sums_to_one_in_every_frame() -> None:
    track = viseme_track([("h", 0.1, 0.2), ("ə", 0.2, 0.3), ("l", 0.3, 0.35), ("oʊ", 0.35, 0.6)], 50)
    assert track.shape == (50, len(VISEMES))
    assert np.allclose(track.sum(1), 1, atol=1e-6)


def test_silence_closes_the_mouth() -> None:
    track = viseme_track([("ɑ", 0.1, 0.2), ("", 0.2, 0.5)], 50)
    assert track[25:, VISEME_NAMES.index("sil")].min() == 1
    assert (track @ viseme_matrix())[25:].max() == 0


def test_nothing_said_is_silence_throughout() -> None:
    assert viseme_track([], 10)[:, VISEME_NAMES.index("sil")].min() == 1


def test_a_sound_peaks_in_the_middle_of_its_time() -> None:
    track = viseme_track([("b", 0.4, 0.6)], 25)
    assert track[:, VISEME_NAMES.index("PP")].argmax() in (11, 12, 13)


@pytest.mark.parametrize("between", ["ɑ", "i", "u", "k"])
def test_lips_meet_on_a_short_b_between_any_sounds(between: str) -> None:
    track = viseme_track([(between, 0.1, 0.3), ("b", 0.3, 0.36), (between, 0.36, 0.6)], 25)
    assert track[:, VISEME_NAMES.index("PP")].max() > 0.8


def test_rounding_begins_before_its_sound_and_a_k_does_not() -> None:
    rounded = viseme_track([("t", 0.2, 0.3), ("u", 0.3, 0.5)], 25)[6, VISEME_NAMES.index("ou")]
    throaty = viseme_track([("t", 0.2, 0.3), ("k", 0.3, 0.5)], 25)[6, VISEME_NAMES.index("kk")]
    assert rounded > 0.1 > 2 * throaty


def test_a_schwa_gives_way_where_a_full_vowel_does_not() -> None:
    def share(vowel: str, viseme: str) -> float:
        track = viseme_track([("s", 0.2, 0.3), (vowel, 0.3, 0.36), ("s", 0.36, 0.46)], 25)
        return float(track[:, VISEME_NAMES.index(viseme)].max())

    assert share("ə", "ih") < share("i", "ih")


def test_symbols_are_split_into_their_sounds_and_marks_dropped() -> None:
    assert sounds_of("ˈaɪ") == ["a", "ɪ"]
    assert sounds_of("tʃ") == ["tʃ"]
    assert sounds_of("ɔːɹ") == ["ɔ", "ɹ"]
    assert sounds_of("əl") == ["ə", "l"]
    assert sounds_of("?") == []


def test_diphthong_becomes_two_visemes_and_an_empty_symbol_silence() -> None:
    assert [v for v, _, _ in visemes_of([("ˈaɪ", 0.0, 1.0)])] == ["aa", "ih"]
    assert visemes_of([("tʃ", 0.0, 0.1), ("", 0.1, 0.2)]) == [("CH", 0.0, 0.1), ("sil", 0.1, 0.2)]


def test_weights_of_any_two_visemes_are_apart() -> None:
    matrix = viseme_matrix()
    distance = np.linalg.norm(matrix[:, None] - matrix[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    a, b = np.unravel_index(distance.argmin(), distance.shape)
    assert distance.min() > 0.4, f"{VISEME_NAMES[a]} and {VISEME_NAMES[b]}: {distance.min():.2f}"


def test_mouths_of_any_two_visemes_look_different(mouths: dict[str, Render]) -> None:
    """By 2 grey levels on average over the lower face, where the eye still tells them apart."""
    lips = landmarks(mouths["sil"])[[0, 17, 61, 291]].mean(0).astype(int)
    crops = np.stack(
        [
            mouth.image[lips[1] - 25 : lips[1] + 30, lips[0] - 30 : lips[0] + 30].astype(np.float32)
            for mouth in mouths.values()
        ]
    )
    distance = np.abs(crops[:, None] - crops[None]).mean((2, 3, 4))
    np.fill_diagonal(distance, np.inf)
    a, b = np.unravel_index(distance.argmin(), distance.shape)
    assert distance.min() > 2, f"{VISEME_NAMES[a]} and {VISEME_NAMES[b]}: {distance.min():.2f}"


def test_lips_close_on_p_and_open_on_vowels(mouths: dict[str, Render]) -> None:
    def gap(name: str) -> float:
        points = landmarks(mouths[name])
        return float(points[LOWER_INNER_LIP, 1] - points[UPPER_INNER_LIP, 1])

    assert gap("PP") < gap("sil") + 0.5
    assert gap("PP") < 2 < gap("SS")
    assert gap("aa") > gap("E") > gap("ih") > gap("PP")


def test_random_mouths_are_made_of_visemes() -> None:
    mouth = random_mouth(np.random.default_rng(0))
    assert mouth.shape == (len(COEFFICIENTS),) and mouth.max() > 0
