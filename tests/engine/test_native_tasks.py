"""With the real tasks of MediaPipe, whose own way to end is what is guarded against."""

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from engine.assets import face_landmarker_path, selfie_segmentation_path
from engine.face_tracker import FaceTracker
from engine.native_tasks import closed_with
from engine.portrait_mask import PortraitMask


@pytest.mark.parametrize(
    "opened",
    [lambda: FaceTracker(face_landmarker_path()), lambda: PortraitMask(selfie_segmentation_path())],
    ids=["tracker", "mask"],
)
def test_what_nobody_closed_does_not_stop_the_garbage_collector(opened: Callable[[], object]) -> None:
    cycle: list[Any] = [opened()]
    cycle.append(cycle)
    del cycle
    collecting = threading.Thread(target=gc.collect, daemon=True)
    collecting.start()
    collecting.join(20)
    assert not collecting.is_alive()


def test_a_task_is_closed_once() -> None:
    class Task:
        closed = 0

        def close(self) -> None:
            self.closed += 1

    class Owner: ...

    task, owner = Task(), Owner()
    close = closed_with(owner, task)
    close()
    close()
    del owner
    assert task.closed == 1
