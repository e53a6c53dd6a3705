"""With the real tasks of MediaPipe, whose own way to end is what is guarded against."""

import gc
import threading
from collections.abc import Callable
from concurrent.futures import thread as pool
from typing import Any

import pytest

from engine.assets import face_landmarker_path, selfie_segmentation_path
from engine.face_tracker import FaceTracker
from engine.native_tasks import Closing
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


def test_nor_does_it_where_the_collector_comes_by_within_an_executor() -> None:
    cycle: list[Any] = [FaceTracker(face_landmarker_path())]
    cycle.append(cycle)
    del cycle

    def collect() -> None:
        with pool._global_shutdown_lock:  # as `ThreadPoolExecutor.submit` does
            gc.collect()

    collecting = threading.Thread(target=collect, daemon=True)
    collecting.start()
    collecting.join(20)
    assert not collecting.is_alive()


class Task:
    def __init__(self) -> None:
        self.closed: list[str] = []
        self.is_closed = threading.Event()

    def close(self) -> None:
        self.closed.append(threading.current_thread().name)
        self.is_closed.set()


class Owner: ...


def test_a_task_is_closed_once_and_at_once_when_asked() -> None:
    task, owner = Task(), Owner()
    close = Closing(owner, task)
    close()
    close()
    del owner
    assert task.closed == [threading.current_thread().name]


def test_a_task_whose_owner_is_gone_is_closed_in_another_thread_and_so_is_the_next() -> None:
    class Failing(Task):
        def close(self) -> None:
            super().close()
            raise RuntimeError

    for task in (Failing(), Task()):
        owner = Owner()
        Closing(owner, task)
        del owner
        assert task.is_closed.wait(5)
        assert task.closed == ["abandoned-tasks"]
