"""Faces that came with the model, and photos that visitors send."""

import io

import aiohttp
import cv2
import numpy as np
import pytest

from tests.bundles import astronaut
from tests.engine.http.conftest import Client
from tests.engine.http.offers import error_of


async def test_identities_come_with_thumbnails(client: Client) -> None:
    (entry,) = (await (await client.get("/identities")).json())["identities"]
    thumbnail = await client.get(entry["thumbnail"])
    assert entry["name"] == "astronaut"
    assert thumbnail.content_type == "image/png"
    assert (await client.get("/identities/nobody/thumbnail.png")).status == 404


def form(content: bytes, name: str) -> aiohttp.FormData:
    data = aiohttp.FormData()
    data.add_field("photo", io.BytesIO(content), filename=name)
    return data


@pytest.mark.parametrize("content", [b"just text", b"", b"\x89PNG\r\n\x1a\n but no more"])
async def test_text_for_a_photo_gets_one_clear_sentence(client: Client, session: str, content: bytes) -> None:
    response = await client.post(f"{session}/identity", data=form(content, "me.png"))
    assert response.status == 422
    assert "photo" in await error_of(response)
    assert (await client.get(session)).status == 200


async def test_a_photo_without_a_face_gets_one_clear_sentence(client: Client, session: str) -> None:
    grey = np.full((256, 256, 3), 127, np.uint8)
    response = await client.post(
        f"{session}/identity", data=form(cv2.imencode(".png", grey)[1].tobytes(), "grey.png")
    )
    assert response.status == 422
    assert "face" in (await error_of(response)).lower()


async def test_a_photo_of_a_face_becomes_the_identity(client: Client, session: str) -> None:
    photo = cv2.imencode(".jpg", astronaut()[:, :, ::-1])[1].tobytes()
    response = await client.post(f"{session}/identity", data=form(photo, "me.jpg"))
    assert response.status == 200
    assert (await response.json())["identity"] == "uploaded"


async def test_a_photo_must_come_as_a_form(client: Client, session: str) -> None:
    assert (await client.post(f"{session}/identity", data=b"x")).status == 415
