"""Backends in a process of their own: after some failures of a GPU CUDA works again only in a new one.

One process holds all backends of a server, each in a thread of its own, so that they share the GPU's context.
An identity's tensors, which stay the same from picture to picture, go there once.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import secrets
import signal
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Client, Connection, Listener
from multiprocessing.process import BaseProcess
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.backends.abilities import (
    FaceLook,
    Picture,
    ReadsFaces,
    Results,
    draw_together,
    preferred_batch,
    run_together,
)
from engine.backends.backend import Backend, Tensors
from engine.backends.channel import Channel
from engine.errors import EngineError, GpuError, GpuLostError

logger = logging.getLogger(__name__)

START_S: Final = 60.0
"""How long a process may take until it can be talked to: it loads numpy and the run time's bindings."""
END_S: Final = 10.0


class WorkerProcess:
    """The process, started when it is first needed and again after it ended. Used from several threads."""

    def __init__(self, open_backend: Callable[[int | None], Backend]) -> None:
        """open_backend: called in the process with the number of threads; it must be picklable."""
        self._open_backend = open_backend
        self._lock = threading.Lock()
        self._process: BaseProcess | None = None
        self._control: Connection | None = None
        self._address: Any = None
        self._key = secrets.token_bytes(32)
        self._guests = 0

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return None if self._process is None or not self._process.is_alive() else self._process.pid

    def connect(self) -> Connection:
        """To a backend of its own. Raises GpuError: the process does not start."""
        with self._lock:
            if self.pid is None:
                self._start()
            try:
                connection = Client(self._address, authkey=self._key)
            except (OSError, EOFError) as error:
                raise GpuLostError("The process that works with the GPU ended.") from error
            self._guests += 1
            return connection

    def leave(self) -> None:
        """A connection is closed; with the last one the process ends."""
        with self._lock:
            self._guests -= 1
            if self._guests == 0:
                self._end()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._end()
        self._control, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._open_backend, self._key), name="gcavt-gpu", daemon=True
        )
        self._process.start()
        theirs.close()
        try:
            if not self._control.poll(START_S):
                raise EOFError
            self._address = self._control.recv()
        except (EOFError, OSError) as error:
            self._end()
            raise GpuError("The process that works with the GPU does not start; the log says why.") from error
        logger.info("process %s works with the GPU", self._process.pid)

    def _end(self) -> None:
        """The process ends when its control is closed."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.join(END_S)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
        if self._address is not None:
            _remove_socket(self._address)
        self._control = self._process = self._address = None


class RemoteBackend:
    """A backend in a WorkerProcess. Its process may end at any time: that is a GpuLostError."""

    def __init__(self, process: WorkerProcess, threads: int | None) -> None:
        """Raises what the opening there raises, and GpuError."""
        self._process = process
        self._channel = Channel(process.connect())
        self._lasting = _LastingArrays()
        try:
            self.name, self.provider, self.preferred_batch, self.reads_faces = self._ask("open", threads)
        except BaseException:
            self._leave()
            raise

    def run(self, network: str, inputs: Tensors) -> Results:
        return dict(self._ask("run", network, [inputs])[0])

    def run_together(self, network: str, requests: Sequence[Tensors]) -> list[Results]:
        return list(self._ask("run_together", network, requests))

    def draw_together(self, requests: Sequence[Tensors]) -> list[Picture]:
        return list(self._ask("draw_together", "generator", requests))

    def read_face(self, look: FaceLook) -> Results:
        return dict(self._ask("read_face", look))

    def close(self) -> None:
        """Also after the process has ended."""
        try:
            self._ask("close")
        except GpuError:
            logger.debug("the process had ended before its backend was closed")
        finally:
            self._leave()

    def _leave(self) -> None:
        self._channel.close()
        self._process.leave()

    def _ask(self, method: str, *values: Any) -> Any:
        if len(values) == 2:
            network, requests = values
            values = network, [self._lasting.packed(request) for request in requests]
        try:
            self._channel.send((method, values, self._lasting.take_gone()))
            error, answer = self._channel.recv()
        except (EOFError, OSError) as failure:
            raise GpuLostError("The process that works with the GPU ended.") from failure
        if error is not None:
            raise error
        return answer


class _LastingArrays:
    """Sends every array that cannot be written once, and afterwards its number."""

    def __init__(self) -> None:
        self._numbers: dict[int, tuple[int, weakref.ref[NDArray[np.float32]]]] = {}
        self._next = 0
        self._gone: list[int] = []

    def packed(self, tensors: Tensors) -> dict[str, Any]:
        """In place of a lasting array (number, array) the first time, then (number, None)."""
        return {
            name: array if array.flags.writeable else self._numbered(array) for name, array in tensors.items()
        }

    def take_gone(self) -> list[int]:
        """Numbers of arrays that no longer exist, since the last call."""
        gone, self._gone = self._gone, []
        return gone

    def _numbered(self, array: NDArray[np.float32]) -> tuple[int, NDArray[np.float32] | None]:
        key = id(array)
        if key in self._numbers and self._numbers[key][1]() is array:
            return self._numbers[key][0], None
        number, self._next = self._next, self._next + 1
        self._numbers[key] = number, weakref.ref(array, lambda _: self._forget(key, number))
        return number, array

    def _forget(self, key: int, number: int) -> None:
        self._gone.append(number)
        if key in self._numbers and self._numbers[key][0] == number:
            del self._numbers[key]


# -- in the process -----------------------------------------------------------------------------------------


def _serve(control: Connection, open_backend: Callable[[int | None], Backend], key: bytes) -> None:
    """Serve until the other end closes `control`, or is no more."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches us too, but the server ends us in its own time
    listener = Listener(authkey=key)
    control.send(listener.address)
    threading.Thread(target=_accept, args=(listener, open_backend), daemon=True).start()
    try:
        control.recv()
    except (EOFError, OSError):
        _remove_socket(listener.address)
        os._exit(0)  # whatever the threads do: what they had to keep was kept when their backends were closed


def _remove_socket(address: Any) -> None:
    """And the directory that it alone lies in: a process that does not end by itself leaves both."""
    with contextlib.suppress(OSError):
        os.unlink(address)
        os.rmdir(os.path.dirname(address))


def _accept(listener: Listener, open_backend: Callable[[int | None], Backend]) -> None:
    while True:
        connection = listener.accept()
        threading.Thread(target=_converse, args=(connection, open_backend), daemon=True).start()


def _converse(connection: Connection, open_backend: Callable[[int | None], Backend]) -> None:
    channel = Channel(connection)
    backend: Backend | None = None
    lasting: dict[int, NDArray[np.float32]] = {}
    while True:
        try:
            method, values, gone = channel.recv()
        except (EOFError, OSError):
            channel.close()
            return
        for number in gone:
            lasting.pop(number, None)
        try:
            if method == "open":
                backend = open_backend(*values)
                answer: Any = _described(backend)
            else:
                assert backend is not None
                answer = _answer(backend, method, values, lasting)
        except Exception as error:  # it belongs to who asked
            channel.send((_portable(error), None))
            if isinstance(error, GpuLostError):
                logger.exception("the process that works with the GPU ends")
                os._exit(1)
        else:
            channel.send((None, answer))


def _described(backend: Backend) -> tuple[str, str, int, bool]:
    reads_faces = isinstance(backend, ReadsFaces) and backend.reads_faces
    return backend.name, backend.provider, preferred_batch(backend), reads_faces


def _answer(
    backend: Backend, method: str, values: tuple[Any, ...], lasting: dict[int, NDArray[np.float32]]
) -> Any:
    if method == "close":
        return backend.close()
    if method == "read_face":
        assert isinstance(backend, ReadsFaces)
        return backend.read_face(*values)
    network, packed = values
    requests = [_unpacked(request, lasting) for request in packed]
    if method == "run":
        return [backend.run(network, requests[0])]
    if method == "run_together":
        return run_together(backend, network, requests)
    return draw_together(backend, requests)


def _unpacked(packed: Mapping[str, Any], lasting: dict[int, NDArray[np.float32]]) -> Tensors:
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, value in packed.items():
        if isinstance(value, tuple):
            number, array = value
            if array is not None:
                array.setflags(write=False)
                lasting[number] = array
            value = lasting[number]
        tensors[name] = value
    return tensors


def _portable(error: Exception) -> Exception:
    """The error itself where it survives pickling, as ours and Python's own do."""
    if isinstance(error, EngineError | ValueError | KeyError | TypeError | ModuleNotFoundError):
        return error
    logger.error("a backend failed", exc_info=error)
    return RuntimeError(f"{type(error).__name__}: {error}")
