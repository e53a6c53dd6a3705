"""What TensorRT measured in former builds; engines themselves are built in test_rtx_engines.py."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from trt_build.engine_builder import _timing_cache


@dataclass
class Config:
    """Takes what was measured on this GPU, as IBuilderConfig does."""

    attached: bytes | None = None

    def create_timing_cache(self, content: bytes) -> bytes | None:
        return None if content == b"damaged" else content

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache not in (b"", b"this GPU"):
            return False
        self.attached = cache
        return True


@pytest.mark.parametrize(
    ("content", "used"),
    [(b"", b""), (b"this GPU", b"this GPU"), (b"another GPU", b""), (b"damaged", b"")],
)
def test_what_another_gpu_measured_is_not_used(content: bytes, used: bytes) -> None:
    config = Config()
    assert _timing_cache(config, content) == used
    assert config.attached == used
