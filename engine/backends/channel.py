"""Messages between two processes of one machine, whose arrays go through memory that both map.

Through the socket alone an identity's 3.4 MB took 13 ms on a busy machine, so 0.5 ms.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SHARED_DIR: Final = Path("/dev/shm")
"""Files here are memory; elsewhere than on Linux they lie where temporary files do."""


class Channel:
    """One end. The two take turns: who has sent waits for the answer before it sends again."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._out: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._out_path = ""
        self._in: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._in_path = ""
        self._is_mapped = True

    def send(self, message: object) -> None:
        """Raises OSError: the other end is gone."""
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
        arrays = [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]
        self._reserve(sum(len(array) for array in arrays))
        offset = 0
        for array in arrays:
            self._out[offset : offset + len(array)] = array
            offset += len(array)
        self._connection.send((data, self._out_path, [len(array) for array in arrays]))

    def recv(self) -> Any:
        """The next message; its arrays are the receiver's own. Raises EOFError or OSError: none will come."""
        data, path, sizes = self._connection.recv()
        if path != self._in_path:
            self._in, self._in_path = np.memmap(path, np.uint8, "r"), path
        ends = np.cumsum([0, *sizes]).tolist()
        copies = [bytearray(self._in[begin:end]) for begin, end in zip(ends, ends[1:], strict=False)]
        return pickle.loads(data, buffers=copies)

    def close(self) -> None:
        self._unlink()
        if self._in_path:  # an end that was killed did not do it
            Path(self._in_path).unlink(missing_ok=True)
        self._connection.close()

    def _reserve(self, size: int) -> None:
        if not self._is_mapped:  # it was when the other end answered: its name is needed no longer
            self._unlink()
        if size > len(self._out):
            directory = SHARED_DIR if SHARED_DIR.is_dir() else None
            handle, self._out_path = tempfile.mkstemp(prefix="gcavt-", dir=directory)
            os.truncate(handle, 2 * size)
            os.close(handle)
            self._out = np.memmap(self._out_path, np.uint8, "r+")
            self._is_mapped = False

    def _unlink(self) -> None:
        if not self._is_mapped:
            Path(self._out_path).unlink(missing_ok=True)
            self._is_mapped = True
