import importlib
import sys
from pathlib import Path

import pytest

from gcavt.code_space import COEFFICIENTS
from training.synthetic.head_pack import load_head_pack


def test_pack_has_the_52_coefficients_of_the_code_space_in_their_order() -> None:
    pack = load_head_pack()
    assert pack.face_units == COEFFICIENTS
    assert pack.face_unit_targets.shape == (52, *pack.vertices_V3.shape)


def test_pack_loads_without_anny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anny", None)
    with pytest.raises(ImportError):
        importlib.import_module("anny")
    assert len(load_head_pack.__wrapped__().triangles_T3) == len(load_head_pack().triangles_T3)


def test_subdivision_keeps_a_constant_constant() -> None:
    rows = load_head_pack().subdivision_FV.sum(axis=1)
    assert abs(rows - 1).max() < 1e-5


def test_landmarks_are_mirrored_about_the_middle_of_the_face() -> None:
    pack = load_head_pack()
    left, right = pack.canonical_F3[pack.landmark_vertices_468[[263, 33]]]
    assert left[0] == pytest.approx(-right[0], abs=0.02)
    assert left[1] == pytest.approx(right[1], abs=0.02)


def test_missing_pack_names_the_command_that_builds_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python -m training\.synthetic\.head_pack"):
        load_head_pack(tmp_path / "none.npz")
