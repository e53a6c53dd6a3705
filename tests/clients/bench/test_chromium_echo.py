"""Chromium as the client of the transport benchmarks, for a moment."""

import shutil

import pytest

from clients.bench.chromium import BROWSERS, echo_in_chromium
from clients.bench.processes import echo_server

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        not any(map(shutil.which, BROWSERS)), reason="no Chromium here: apt-get install -y chromium"
    ),
]


@pytest.mark.parametrize("side", ["ours", "stock"])
@pytest.mark.parametrize("in_step", [False, True])
async def test_marked_pictures_and_tones_come_back_to_the_page(side: str, in_step: bool) -> None:
    with echo_server(side, "vp8") as url:
        seen = await echo_in_chromium(url, "vp8", 128, seconds=12, warm_up_s=6, in_step=in_step)
    assert len(seen["pictures"]) > 5
    assert seen["tones"]
