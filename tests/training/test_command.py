"""Several training processes: who starts them can stop them."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from training.command import in_processes

LONGEST_S = 60


def stop_when_told(rank: int, folder: Path) -> None:
    told = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: told.set())
    (folder / f"ready_{rank}").touch()
    end_s = time.monotonic() + LONGEST_S
    while not told.is_set() and time.monotonic() < end_s:
        time.sleep(0.01)
    (folder / f"told_{rank}_{told.is_set()}").touch()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_all_processes_are_told_to_stop_and_waited_for(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def stop() -> None:
        end_s = time.monotonic() + LONGEST_S
        while len(list(tmp_path.glob("ready_*"))) < 2 and time.monotonic() < end_s:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    stopper = threading.Thread(target=stop)
    stopper.start()
    in_processes(stop_when_told, (tmp_path,), 2)
    stopper.join()
    assert {path.name for path in tmp_path.glob("told_*")} == {"told_0_True", "told_1_True"}
    assert signal.getsignal(number) is before
