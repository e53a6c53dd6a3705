import numpy as np
import pytest
from numpy.typing import NDArray

from gcavt.code_space import COEFFICIENTS
from training.synthetic.identity import Identity, Scene
from training.synthetic.renderer import Render, Renderer


@pytest.fixture(scope="session")
def identity() -> Identity:
    return Identity(5)


@pytest.fixture(scope="session")
def renderer(identity: Identity) -> Renderer:
    return Renderer(identity, Scene.from_seed(5))


@pytest.fixture(scope="session")
def reference(renderer: Renderer) -> Render:
    return renderer.render(np.zeros(52), (2, -4, 1, 0.02, 0.0, 0.1))


@pytest.fixture(scope="session")
def open_mouth() -> NDArray[np.float32]:
    weights = np.zeros(52, np.float32)
    weights[COEFFICIENTS.index("jawOpen")] = 0.5
    return weights


@pytest.fixture(scope="session")
def edited(renderer: Renderer, reference: Render, open_mouth: NDArray[np.float32]) -> Render:
    return renderer.render(open_mouth, reference.pose_6)
