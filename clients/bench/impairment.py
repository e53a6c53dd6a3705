"""A bad network without one: packets that this process sends are dropped or held back on purpose.

Kernels without netem have no other way. Only protected media and its reports (SRTP, SRTCP) are touched; ICE
and DTLS get through. Both ends of a connection do this, so it acts in both directions.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from aioice.ice import StunProtocol

FIRST_MEDIA_BYTE, LAST_MEDIA_BYTE = 128, 191
"""RFC 7983: what tells media from STUN and DTLS on one port."""


@dataclass
class Impairment:
    """May be changed at any time. `install` makes it act on all that this process sends."""

    loss: float = 0.0
    """The share of packets that are dropped."""
    delay_ms: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self.sent = 0
        self.dropped = 0

    def install(self) -> None:
        send_data = StunProtocol.send_data

        async def send_impaired(protocol: StunProtocol, data: bytes, address: tuple[str, int]) -> None:
            if not FIRST_MEDIA_BYTE <= data[0] <= LAST_MEDIA_BYTE:
                await send_data(protocol, data, address)
            elif not self._drops():
                if self.delay_ms:
                    loop = asyncio.get_running_loop()
                    loop.call_later(self.delay_ms / 1000, _send_now, protocol, data, address)
                else:
                    await send_data(protocol, data, address)

        setattr(StunProtocol, "send_data", send_impaired)  # noqa: B010 - a method is replaced on purpose

    def _drops(self) -> bool:
        self.sent += 1
        is_dropped = self._random.random() < self.loss
        self.dropped += is_dropped
        return is_dropped


def _send_now(protocol: StunProtocol, data: bytes, address: tuple[str, int]) -> None:
    if not protocol.transport.is_closing():
        protocol.transport.sendto(data, address)
