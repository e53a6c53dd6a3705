import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.synthetic.head_pack import Material
from training.synthetic.identity import Identity, Scene
from training.synthetic.performance import both, weight_vector
from training.synthetic.renderer import Renderer
from training.synthetic.torch_renderer import TorchRenderer, ZBuffer

_SEED = 1001
"""Somebody with a bun, a beard or a collar: every material but glasses is seen."""


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(Identity(_SEED), Scene.from_seed(_SEED), supersampling=2)


@pytest.fixture(scope="module")
def frames() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """An open mouth with raised brows turned left, and a blink turned right."""
    opened = weight_vector({"jawOpen": 0.7, "mouthSmileLeft": 0.4, "browInnerUp": 0.8, "tongueOut": 0.2})
    weights = np.stack([opened, weight_vector(both("eyeBlink", 0.4))])
    return weights, np.array([[5, -14, 3, 0, 0, 0.1], [-4, 18, -5, 0.1, 0, 0]], np.float32)


def test_shading_the_same_surfaces_gives_the_same_pictures(
    renderer: Renderer, frames: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> None:
    """Over the compiled renderer's own z-buffer: one set of formulas, so equal to rounding."""
    compiled = [renderer.render(w, p) for w, p in zip(*frames, strict=True)]
    seen = {
        Material(int(m))
        for r in compiled
        for m in np.unique(renderer.material_T[r.triangle_RR[r.triangle_RR >= 0]])
    }
    assert seen >= {Material.SKIN, Material.EYE, Material.HAIR, Material.CLOTH, Material.UPPER_TEETH}
    twin = TorchRenderer(renderer)
    z_buffer = ZBuffer(
        triangle_BRR=torch.from_numpy(np.stack([r.triangle_RR for r in compiled])).long(),
        weight_1_BRR=torch.from_numpy(np.stack([r.weight_1_RR for r in compiled])),
        weight_2_BRR=torch.from_numpy(np.stack([r.weight_2_RR for r in compiled])),
    )
    drawn = twin.draw_over(z_buffer, *frames)
    for k, expected in enumerate(compiled):
        gap = np.abs(drawn.image_BSS3[k].numpy().astype(np.float64) - expected.image)[expected.alpha > 0]
        assert gap.mean() < 0.05
        assert (gap > 2).mean() < 1e-3
        assert np.array_equal(drawn.segmentation_BSS[k].numpy(), expected.segmentation)
        assert np.abs(drawn.alpha_BSS[k].numpy().astype(int) - expected.alpha).max() <= 1


def test_rasterising_too_gives_the_same_pictures_but_for_edges(
    renderer: Renderer, frames: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> None:
    """Where another triangle won a pixel, by rounding at an edge or at the rim of a strand, is left out."""
    drawn = TorchRenderer(renderer).render(*frames)
    for k, (weights, pose) in enumerate(zip(*frames, strict=True)):
        expected = renderer.render(weights, pose)
        same = drawn.z_buffer.triangle_BRR[k].numpy() == expected.triangle_RR
        assert same.mean() > 0.995
        whole = cv2.resize(same.astype(np.uint8) * 255, (256, 256), interpolation=cv2.INTER_AREA) == 255
        gap = np.abs(drawn.image_BSS3[k].numpy().astype(np.float64) - expected.image)
        figure = expected.alpha > 0
        assert gap[figure & whole].mean() < 0.1
        assert gap[figure].mean() < 1.5


@pytest.mark.gpu
def test_a_gpu_draws_what_the_cpu_draws(
    renderer: Renderer, frames: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> None:
    here, there = TorchRenderer(renderer).render(*frames), TorchRenderer(renderer, "cuda").render(*frames)
    same = (here.z_buffer.triangle_BRR == there.z_buffer.triangle_BRR.cpu()).float().mean()
    gap = (here.image_BSS3.double() - there.image_BSS3.cpu().double()).abs()
    assert same > 0.995
    assert gap[here.alpha_BSS > 0].mean() < 0.5
