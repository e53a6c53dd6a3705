import numpy as np
import pytest

from gcavt.code_space import COEFFICIENTS
from training.synthetic.emotion import (
    Episode,
    course,
    draw_episodes,
    emotion_glances,
    emotion_labels,
    emotion_track,
)
from training.synthetic.motion import MOODS

FPS = 25


def episode(name: str, **changes: object) -> Episode:
    facts: dict[str, object] = {
        "name": name,
        "start_s": 1.0,
        "onset_s": 0.4,
        "apex_s": 1.0,
        "decay_s": 1.2,
        "strength": 1.0,
        "side_shares": (1.0, 0.8),
        "side_lags_s": (0.0, 0.05),
        "is_mirrored": False,
    }
    return Episode(**(facts | changes))  # type: ignore[arg-type]


def track_of(one: Episode, speaking: float = 0.0) -> np.ndarray:
    return emotion_track(np.random.default_rng(0), [one], 5 * FPS, FPS, np.full(5 * FPS, speaking))


def test_an_emotion_comes_stays_and_goes_slower_than_it_came() -> None:
    time_s = np.arange(0, 5, 0.01)
    shape = course(episode("happy"), time_s)
    assert shape[time_s < 1].max() == 0 and shape[time_s > 3.7].max() == 0
    up = time_s[(shape > 0.1) & (shape < 0.8) & (time_s < 1.5)]
    down = time_s[(shape > 0.1) & (shape < 0.8) & (time_s > 2)]
    assert np.ptp(down) > 2 * np.ptp(up)


def test_the_weaker_side_stays_behind() -> None:
    track = track_of(episode("happy"))
    left, right = (track[:, COEFFICIENTS.index(f"mouthSmile{side}")].max() for side in ("Left", "Right"))
    assert right == pytest.approx(0.8 * left, rel=0.02)


def test_contempt_has_one_side_which_may_be_the_other() -> None:
    smiles = [COEFFICIENTS.index("mouthSmileLeft"), COEFFICIENTS.index("mouthSmileRight")]
    plain = track_of(episode("contempt"))[:, smiles].max(0)
    mirrored = track_of(episode("contempt", is_mirrored=True))[:, smiles].max(0)
    assert plain[0] > 0.5 and plain[1] == 0
    assert mirrored[1] > 0.5 and mirrored[0] == 0


def test_speech_takes_the_mouth_but_not_the_brows() -> None:
    jaw, brow = COEFFICIENTS.index("jawOpen"), COEFFICIENTS.index("browInnerUp")
    silent, speaking = track_of(episode("surprised")), track_of(episode("surprised"), 1.0)
    assert speaking[:, jaw].max() < 0.7 * silent[:, jaw].max()
    assert np.array_equal(speaking[:, brow], silent[:, brow])


def test_drawn_episodes_do_not_overlap_and_use_every_mood() -> None:
    episodes = draw_episodes(np.random.default_rng(1), 600, MOODS)
    assert {one.name for one in episodes} == set(MOODS)
    assert all(a.end_s < b.start_s for a, b in zip(episodes[:-1], episodes[1:], strict=True))
    assert all(min(one.side_shares) >= 0.8 and max(one.side_shares) == 1 for one in episodes)
    onsets = {name: [e.onset_s for e in episodes if e.name == name] for name in ("surprised", "sad")}
    assert max(onsets["surprised"]) < min(onsets["sad"])


def test_no_moods_mean_no_episodes() -> None:
    assert draw_episodes(np.random.default_rng(1), 600, ()) == ()


def test_frames_are_labelled_while_an_emotion_shows() -> None:
    labels = emotion_labels([episode("sad")], 5 * FPS, FPS)
    assert labels[0] == "neutral" and labels[2 * FPS] == "sad" and labels[-1] == "neutral"


def test_thinking_looks_up_and_aside() -> None:
    (glance,) = emotion_glances([episode("thinking")])
    (mirrored,) = emotion_glances([episode("thinking", is_mirrored=True)])
    assert glance.target_deg[1] > 5 and glance.target_deg[0] == -mirrored.target_deg[0]
