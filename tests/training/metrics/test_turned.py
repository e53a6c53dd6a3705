"""Turned heads: the figures of a model that draws the exact picture, and of one whose head stays."""

from tests.training.metrics.test_rendered import Renders
from training.metrics.held_out import HeldOut
from training.metrics.turned import GIVEN, SHEET_PEOPLE, TURNS_DEG, columns_of, evaluate_turned


def test_a_perfect_model_is_near_at_every_turn_and_a_stiff_one_is_not(held_out: HeldOut) -> None:
    figures, sheet = evaluate_turned(Renders(held_out), held_out)
    assert len(figures) == len({abs(turn) for turn in TURNS_DEG}) * len(GIVEN)
    assert all(found["ssim"] > 0.995 for found in figures.values())
    people = min(SHEET_PEOPLE, len(held_out.identities))
    assert sheet.shape[0] > 100 * 3 * people
    stiff, _ = evaluate_turned(Renders(held_out, follows_pose=False), held_out)
    assert stiff["32 degrees, sides"]["ssim"] < stiff["16 degrees, sides"]["ssim"] < 0.95
    assert [row[0] for row in columns_of(stiff)] == sorted(stiff)


def test_portraits_from_the_side_are_given_or_not(held_out: HeldOut) -> None:
    given: list[tuple[str, int]] = []

    class Asked(Renders):
        def identity(self, name: str, portraits: object, *facts: object) -> object:  # type: ignore[override]
            given.append((name.partition("_")[0], len(portraits)))  # type: ignore[arg-type]
            return super().identity(name, portraits, *facts)

    evaluate_turned(Asked(held_out), held_out)
    assert set(given) == {("reference", 4), ("front", 2)}
