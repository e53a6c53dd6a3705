"""Which moments of a film the sheets pick, and whom a test set holds."""

from pathlib import Path

import numpy as np
import pytest

from engine.errors import BadMediaError
from training.evaluate import own_bank, render_test_people
from training.metrics.held_out import HeldOut
from training.metrics.performance import word_of_frame
from training.metrics.showcase import _spread, word_moments


def test_each_word_is_shown_at_a_third_and_at_two_thirds() -> None:
    words = [""] * 4 + ["hello"] * 9 + [""] + ["a"] + ["fish"] * 3
    assert word_moments(words) == [7, 10, 14, 16, 17]
    assert word_moments(["", ""]) == []


def test_words_last_from_frame_to_frame_as_they_are_timed() -> None:
    labels = word_of_frame((("hello", 0.08, 0.24), ("you", 0.24, 0.32), ("late", 0.4, 2.0)), 12)
    assert labels == ["", "", *["hello"] * 4, "you", "you", "", "", "late", "late"]


def test_driving_frames_are_far_apart(held_out: HeldOut) -> None:
    picked = _spread(held_out, "pose", 3, np.random.default_rng(0))
    assert len(set(picked)) == 3
    poses = np.stack([held_out.acting(i).pose[:3] for i in picked])
    apart = np.linalg.norm(poses[:, None] - poses[None], axis=2)
    assert apart[apart > 0].min() > 3, "degrees"


def test_a_test_set_that_is_there_is_kept_and_another_one_is_refused(rendered: Path) -> None:
    done = rendered / "part_00" / "done.json"
    before = done.stat().st_mtime_ns
    render_test_people(rendered, 1000, 3)
    assert done.stat().st_mtime_ns == before
    with pytest.raises(BadMediaError, match="other people"):
        render_test_people(rendered, 1001, 2)


def test_a_checkpoint_brings_no_bank_and_the_shipped_bundle_does() -> None:
    assert own_bank("runs/joint/last.safetensors") is None
    folder = own_bank("lite")
    assert folder is not None and (folder / "lena" / "identity.json").is_file()
