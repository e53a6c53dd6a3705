"""Keeps start-up chatter of native libraries off the terminal, and nothing else."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_CHATTER = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"  # absl, before its first line
    rb"|[IW]\d{4} "  # absl information and warnings
    rb"|INFO: Created TensorFlow Lite"
)
_STDERR_FD = 2
_one_at_a_time = threading.Lock()


@contextmanager
def without_chatter() -> Iterator[None]:
    """Hold back what C++ code writes to standard error meanwhile; afterwards show all but the known chatter.

    MediaPipe writes straight to file descriptor 2 and has no switch for it. If the block raises, everything
    held back is shown.
    """
    with _one_at_a_time, tempfile.TemporaryFile() as held:
        terminal = os.dup(_STDERR_FD)
        os.dup2(held.fileno(), _STDERR_FD)
        kept = re.compile(rb"$.")  # matches nothing: show every line
        try:
            yield
            kept = _CHATTER
        finally:
            os.dup2(terminal, _STDERR_FD)
            os.close(terminal)
            held.seek(0)
            shown = [line for line in held if not kept.match(line)]
            os.write(_STDERR_FD, b"".join(shown))
