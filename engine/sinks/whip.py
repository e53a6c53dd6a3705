"""The avatar pushed to a media server by WHIP (RFC 9725), again and again when the connection is lost."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Final, Literal
from urllib.parse import urljoin

import aiohttp
from aiortc import RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.exceptions import InvalidAccessError, InvalidStateError, OperationError

from engine.clock import MediaClock
from engine.config import VideoEncodingConfig
from engine.media import AudioChunk
from engine.metrics import PerformanceMetrics
from engine.retry import Backoff
from engine.rtc.negotiation import PARSE_ERRORS, new_connection
from engine.sinks.sink import AvatarFrame
from engine.sinks.webrtc import WebRtcSink
from engine.sources.url import without_password

logger = logging.getLogger(__name__)

SDP: Final = "application/sdp"
HTTP_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
CONNECT_S: Final = 15.0


class WhipError(Exception):
    """The server refused, or its answer cannot be used."""


class WhipSink:
    """Sends to one WHIP address. `problem` says in one sentence why nothing arrives there, or is None."""

    kind = "whip"

    def __init__(
        self,
        url: str,
        token: str | None,
        clock: MediaClock,
        metrics: PerformanceMetrics,
        *,
        codec: Literal["vp8", "h264"] = "h264",
        ice_servers: Sequence[RTCIceServer] = (),
    ) -> None:
        """token: what the server knows us by (Authorization: Bearer). Call it on the event loop.

        codec: offered first; servers that hand on to HLS or RTMP want H.264.
        """
        self.problem: str | None = None
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._clock = clock
        self._metrics = metrics
        self._encoding = VideoEncodingConfig(codec=codec)
        self._ice_servers = ice_servers
        self._sender: WebRtcSink | None = None
        self._task = asyncio.create_task(self._keep_sending())

    @property
    def is_connected(self) -> bool:
        return self._sender is not None

    def show(self, frame: AvatarFrame) -> None:
        if self._sender is not None:
            self._sender.show(frame)

    def play(self, chunk: AudioChunk) -> None:
        if self._sender is not None:
            self._sender.play(chunk)

    async def close(self) -> None:
        """Take leave of the server."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_sending(self) -> None:
        backoff = Backoff()
        async with aiohttp.ClientSession(timeout=HTTP_TIMEOUT) as http:
            while True:
                try:
                    await self._send_once(http, backoff)
                except (aiohttp.ClientError, TimeoutError, WhipError) as error:
                    self._report(
                        f"The avatar cannot be sent to {without_password(self._url)}: {_reason(error)}."
                    )
                await asyncio.sleep(backoff.next_s())

    async def _send_once(self, http: aiohttp.ClientSession, backoff: Backoff) -> None:
        """Raises WhipError, ClientError or TimeoutError when it is over."""
        connection = new_connection(self._ice_servers)
        connected, lost = _watched(connection)
        kinds = frozenset({"audio", "video"})
        sender = WebRtcSink(connection, kinds, self._clock, self._encoding, self._metrics)
        resource: str | None = None
        try:
            resource, answer_sdp = await self._post_offer(http, connection)
            await _accept(connection, answer_sdp)
            async with asyncio.timeout(CONNECT_S):
                await connected.wait()
            self._sender, self.problem = sender, None
            backoff.reset()
            await lost.wait()
            raise WhipError("the connection was lost")
        finally:
            self._sender = None
            await sender.close()
            if resource is not None:
                await self._delete(http, resource)

    async def _post_offer(
        self, http: aiohttp.ClientSession, connection: RTCPeerConnection
    ) -> tuple[str | None, str]:
        """(the address of what was made there, the server's answer)."""
        await connection.setLocalDescription(await connection.createOffer())
        headers = {"Content-Type": SDP, "Accept": SDP, **self._headers}
        async with http.post(self._url, data=connection.localDescription.sdp, headers=headers) as response:
            if response.status != 201:
                raise WhipError(f"the server answered {response.status} {response.reason}")
            location = response.headers.get("Location")
            resource = None if location is None else urljoin(str(response.url), location)
            return resource, await response.text()

    async def _delete(self, http: aiohttp.ClientSession, resource: str) -> None:
        try:
            async with http.delete(resource, headers=self._headers):
                pass
        except (aiohttp.ClientError, TimeoutError) as error:
            logger.info("%s could not be told of the end: %s", without_password(resource), _reason(error))

    def _report(self, problem: str) -> None:
        if problem != self.problem:
            logger.warning("%s", problem)
        self.problem = problem


def _watched(connection: RTCPeerConnection) -> tuple[asyncio.Event, asyncio.Event]:
    """Events for the connection's being there, and its being lost."""
    connected, lost = asyncio.Event(), asyncio.Event()

    @connection.on("connectionstatechange")
    def note() -> None:
        if connection.connectionState == "connected":
            connected.set()
        elif connection.connectionState in ("failed", "closed"):
            lost.set()

    return connected, lost


async def _accept(connection: RTCPeerConnection, answer_sdp: str) -> None:
    try:
        await connection.setRemoteDescription(RTCSessionDescription(sdp=answer_sdp, type="answer"))
    except (InvalidAccessError, InvalidStateError, OperationError, *PARSE_ERRORS) as error:
        raise WhipError(f"its answer is no session description that fits ({error})") from error


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return os.strerror(error.os_error.errno) if error.os_error.errno else str(error.os_error)
    return "it did not answer in time" if isinstance(error, TimeoutError) else str(error) or repr(error)
