"""A server with a tiny model in the test's own loop, and a client with an open session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from engine.clock import MediaClock
from engine.config import EngineConfig
from engine.http.app import Server
from engine.model_worker import LiveModel
from tests.bundles import TinyBundles

Client = TestClient[web.Request, web.Application]
OpenClient = Callable[[EngineConfig], Awaitable[Client]]


@pytest.fixture(scope="package")
def model(tiny_bundles: TinyBundles) -> Iterator[LiveModel]:
    config = EngineConfig(model=str(tiny_bundles.path("edit_repose")), threads=1)
    opened = LiveModel.open(config)
    yield opened
    opened.close()


@pytest.fixture
def open_client(model: LiveModel, aiohttp_client: AiohttpClient) -> OpenClient:
    """Serve with a config of the test's choice."""

    async def serve(config: EngineConfig) -> Client:
        client: Client = await aiohttp_client(Server(config, model, MediaClock()).app())
        return client

    return serve


@pytest.fixture
async def client(open_client: OpenClient) -> Client:
    return await open_client(EngineConfig(max_sessions=2))


@pytest.fixture
async def session(client: Client) -> str:
    """The path of an open session; the client sends its token from here on."""
    return await log_in(client)


async def log_in(client: Client) -> str:
    response = await client.post("/sessions")
    assert response.status == 201
    opened = await response.json()
    client.session.headers["Authorization"] = f"Bearer {opened['token']}"
    return f"/sessions/{opened['id']}"
