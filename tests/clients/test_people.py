"""The people that precisions are measured on, on the shipped model."""

from __future__ import annotations

import numpy as np

from clients.people import play
from clients.photographed_people import PHOTOS, photographed_people
from clients.rendered_people import render_people
from engine.backends.backend import open_backend
from engine.bundle import Bundle


def test_photographs_give_crops_with_the_face_where_the_landmarks_say() -> None:
    people = photographed_people(4)
    assert [person.name for person in people] == list(PHOTOS)
    for person in people:
        assert person.known is None
        assert [frame.shape for frame, _ in person.frames] == [(256, 256, 3)] * 2
        for _, landmarks in person.frames:
            assert landmarks.shape == (68, 2)
            assert np.all((landmarks > 10) & (landmarks < 246))
    again = photographed_people(4)
    np.testing.assert_array_equal(again[1].frames[1][0], people[1].frames[1][0])


def test_people_are_played_twice_alike_and_labelled() -> None:
    people = render_people(1, people=1) + photographed_people(2)
    bundle = Bundle.open("lite")
    backend = open_backend("openvino", bundle.directory, threads=1)
    calls, again = (play(backend, bundle.manifest, people) for _ in range(2))
    backend.close()
    pictures = [call for call in calls if call.network == "generator"]
    assert [call.label for call in pictures] == ["rendered", "photographed", "photographed"]
    for one, other in zip(calls, again, strict=True):
        for name, array in one.outputs.items():
            np.testing.assert_array_equal(other.outputs[name], array)
