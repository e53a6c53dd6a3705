"""Control by OSC over UDP, for faders and show control.

/gcavt/<session or pattern>/pose camera          also expression, mouth, identity, pose_mode, preset
/gcavt/*/gain/pose 1.2                           also gain/expression, gain/mouth
/gcavt/*/crossfade_ms 300
/gcavt/*/calibrate                               also with 1, 0 (forget) or "range"

OSC knows no passwords: whoever reaches the port controls every session.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, Final, cast

from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.osc_packet import OscPacket, ParseError

from engine.codes import SOCKETS
from engine.control.presets import Presets
from engine.errors import ControlError, EngineError, PortInUseError
from engine.sessions import Session

logger = logging.getLogger(__name__)

Address = tuple[str, int]

PREFIX: Final = "gcavt"
NAMES: Final = (*SOCKETS, "identity", "pose_mode", "preset")
NUMBERS: Final = ("crossfade_ms", *(f"gain/{socket}" for socket in SOCKETS))
KEYS: Final = (*NAMES, *NUMBERS, "calibrate")
MAX_WAITING: Final = 256
"""Messages; a fader's newer value replaces an older one that still waits."""


class OscControl(asyncio.DatagramProtocol):
    """Turns messages into patches, one after the other. Use `listen` to make one."""

    def __init__(self, sessions: Iterable[Session], presets: Presets) -> None:
        """sessions: all live ones whenever it is iterated."""
        self._sessions = sessions
        self._presets = presets
        self._waiting: dict[tuple[str, str], tuple[list[Any], Address]] = {}
        self._has_waiting = asyncio.Event()
        self._task = asyncio.create_task(self._work())
        self._transport: asyncio.DatagramTransport | None = None
        self._closed = asyncio.Event()

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            await self._closed.wait()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def port(self) -> int:
        assert self._transport is not None
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed.set()

    def datagram_received(self, data: bytes, addr: Address) -> None:
        try:
            messages = [timed.message for timed in OscPacket(data).messages]
        except ParseError:  # not answered: who sent it is anybody's guess
            logger.info("a packet from %s is not OSC", addr[0])
            return
        for message in messages:
            try:
                pattern, key = _address(message.address)
            except ControlError as error:
                self._complain(error.message, addr)
                continue
            if len(self._waiting) < MAX_WAITING or (pattern, key) in self._waiting:
                self._waiting[pattern, key] = (list(message.params), addr)
                self._has_waiting.set()

    async def _work(self) -> None:
        while True:
            await self._has_waiting.wait()
            self._has_waiting.clear()
            while self._waiting:
                (pattern, key), (arguments, sender) = next(iter(self._waiting.items()))
                del self._waiting[pattern, key]
                await self._carry_out(pattern, key, arguments, sender)

    async def _carry_out(self, pattern: str, key: str, arguments: list[Any], sender: Address) -> None:
        try:
            changes = self._presets.expand(_changes(key, arguments))
            chosen = [session for session in self._sessions if fnmatchcase(session.id, pattern)]
            if not chosen and pattern != "*":
                raise ControlError(f"There is no session {pattern!r}.")
            for session in chosen:
                await session.performance.patch(changes)
        except EngineError as error:
            self._complain(error.message, sender)

    def _complain(self, sentence: str, sender: Address) -> None:
        logger.warning("OSC from %s: %s", sender[0], sentence)
        if self._transport is not None and not self._transport.is_closing():
            reply = OscMessageBuilder(f"/{PREFIX}/error")
            reply.add_arg(sentence)
            self._transport.sendto(reply.build().dgram, sender)


async def listen(host: str, port: int, sessions: Iterable[Session], presets: Presets) -> OscControl:
    """Listen on UDP host:port (0: any free one) until closed. Raises PortInUseError."""
    loop = asyncio.get_running_loop()
    control = OscControl(sessions, presets)
    try:
        await loop.create_datagram_endpoint(lambda: control, local_addr=(host, port))
    except OSError as error:
        await control.close()
        reason = error.strerror or error
        raise PortInUseError(
            f"cannot listen for OSC on {host}:{port}: {reason}; choose another with --osc-port"
        ) from error
    return control


def _address(address: str) -> tuple[str, str]:
    """The session's id, or a pattern of ids, and what is to be changed. Raises ControlError."""
    parts = address.split("/", 3)
    if len(parts) != 4 or parts[:2] != ["", PREFIX] or parts[3] not in KEYS:
        raise ControlError(
            f"There is no address {address!r}; there are /{PREFIX}/<session or *>/... {', '.join(KEYS)}."
        )
    return parts[2], parts[3]


def _changes(key: str, arguments: list[Any]) -> dict[str, object]:
    """Raises ControlError for arguments of the wrong kind; their values are for the session to judge."""
    if key == "calibrate":
        subject = arguments[0] if arguments else True
        return {"calibrate": subject if isinstance(subject, str) else bool(subject)}
    kind: type | tuple[type, ...] = str if key in NAMES else (int, float)
    if len(arguments) != 1 or not isinstance(arguments[0], kind):
        wanted = "one name" if key in NAMES else "one number"
        raise ControlError(f"{key} takes {wanted}, got {arguments!r}.")
    if key.startswith("gain/"):
        return {"gains": {key.removeprefix("gain/"): arguments[0]}}
    return {key: arguments[0]}
