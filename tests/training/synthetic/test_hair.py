import numpy as np
import pytest

from training.synthetic.hair import STYLES, HairMesh, Surface, grow, hair_coverage
from training.synthetic.head_pack import load_head_pack
from training.synthetic.raster import vertex_normals


@pytest.fixture(scope="module")
def surface() -> Surface:
    pack = load_head_pack()
    return Surface(pack.canonical_F3, vertex_normals(pack.canonical_F3, pack.triangles_T3), pack)


def _grown(surface: Surface, style_name: str, seed: int = 3) -> HairMesh:
    """Hair of one style from 40 roots spread over the scalp."""
    pack, rng = load_head_pack(), np.random.default_rng(seed)
    scalp = np.nonzero(hair_coverage(pack.canonical_F3, 8.0, 0.0) > 0.9)[0]
    roots = pack.canonical_F3[rng.choice(scalp, 40, replace=False)]
    _, normals = surface.nearest(roots)
    return grow(rng, STYLES[style_name], surface, roots, normals)


@pytest.mark.parametrize("style_name", sorted(STYLES))
def test_every_style_grows_sound_cards(surface: Surface, style_name: str) -> None:
    hair = _grown(surface, style_name)
    assert (len(hair.triangles_K3) > 0) == (STYLES[style_name].cards > 0)
    if not len(hair.triangles_K3):
        return
    assert hair.triangles_K3.max() < len(hair.vertices_H3)
    assert np.isfinite(hair.vertices_H3).all()
    assert np.allclose(np.linalg.norm(hair.normals_H3, axis=1), 1, atol=1e-3)
    assert set(np.unique(hair.coordinates_H3[:, 0])) == {-1, 1}


def test_equal_seeds_grow_equal_hair(surface: Surface) -> None:
    assert np.array_equal(_grown(surface, "wavy").vertices_H3, _grown(surface, "wavy").vertices_H3)
    assert not np.array_equal(_grown(surface, "wavy").vertices_H3, _grown(surface, "wavy", 4).vertices_H3)


def test_hair_keeps_off_the_head(surface: Surface) -> None:
    hair = _grown(surface, "bob")
    middle = hair.vertices_H3.reshape(-1, 2, 3).mean(1)
    tips = hair.coordinates_H3.reshape(-1, 2, 3)[:, 0, 1] > 0.4
    distance, _ = surface.nearest(middle[tips])
    assert np.quantile(distance, 0.05) > -0.02


def test_a_bob_is_shown_to_its_cut_and_long_hair_falls_lower(surface: Surface) -> None:
    bob, long_hair = _grown(surface, "bob"), _grown(surface, "long")
    shown = bob.vertices_H3[bob.coordinates_H3[:, 1] <= 1]
    assert STYLES["bob"].end_height is not None
    assert shown[:, 1].min() > STYLES["bob"].end_height - 0.25
    assert long_hair.vertices_H3[:, 1].min() < 5.9


def test_hairline_is_irregular_and_leaves_the_face_free() -> None:
    x = np.linspace(-0.4, 0.4, 41)
    y = np.linspace(7.4, 8.4, 201)
    grid = np.stack(np.broadcast_arrays(x[None], y[:, None], np.float64(1.3)), -1).astype(np.float32)
    coverage = hair_coverage(grid, 8.0, 1.0)
    line = y[(coverage > 0.5).argmax(0)]
    assert 0.01 < line.std() < 0.15
    assert coverage[y < 7.8].max() < 0.05
