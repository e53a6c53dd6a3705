"""Both ends of the transport benchmarks for a moment, in processes of their own."""

import math
import subprocess
import sys

import pytest

from clients.bench.impairment import Impairment
from clients.bench.marks import latencies_ms
from clients.bench.processes import echo_server, run_client


@pytest.mark.parametrize("side", ["ours", "stock"])
def test_marked_pictures_and_sounds_come_back(side: str) -> None:
    with echo_server(side, "vp8") as url:
        measured = run_client("echo", url, side, "vp8", size=128, seconds=2.0, warm_up=2.0)
    assert len(measured["pictures"]) > 5
    assert all(0 < age < 60_000 for _, age in measured["pictures"])
    assert len(measured["server"]["pictures"]) > 5
    assert latencies_ms(measured["tones_sent"], measured["server"]["tones"])


def test_the_stock_side_is_stock() -> None:
    """The server of the stock side must not have taken over aiortc's encoders or receivers."""
    script = (
        "import clients.bench.echo_server, clients.bench.echo_client;"
        "from aiortc import rtcrtpsender, rtcrtpreceiver, codecs;"
        "clients.bench.echo_client.StockPeer('vp8');"
        "assert rtcrtpsender.get_encoder is codecs.get_encoder;"
        "assert rtcrtpreceiver.JitterBuffer.__module__ == 'aiortc.jitterbuffer'"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_impairment_drops_its_share_of_media_and_only_then() -> None:
    impairment = Impairment(loss=0.05, seed=3)
    for _ in range(4000):
        impairment._drops()
    assert impairment.dropped / impairment.sent == pytest.approx(0.05, abs=3 * math.sqrt(0.05 / 4000))
    impairment.loss = 0.0
    assert not any(impairment._drops() for _ in range(100))
