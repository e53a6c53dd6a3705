"""The model, and the one thread in which everything heavy runs: tracking, encoding, generating."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from engine.assets import face_landmarker_path
from engine.backends.backend import Backend, open_backend
from engine.bundle import Bundle
from engine.compositor import decode_picture
from engine.config import EngineConfig
from engine.errors import BadMediaError, BundleError, UnknownSourceError
from engine.face_tracker import FaceTracker
from engine.puppeteer import IdentityState, Puppeteer

Result = TypeVar("Result")

WARM_UP_FRAMES = 3
SWITCH_INTERVAL_S = 0.0005
"""How long a thread may keep the interpreter from the others: a tenth of Python's default."""


class ModelWorker:
    """Runs jobs one after the other in its own thread, so that the event loop never computes.

    A performance hands in one job at a time and waits for it: what queues here is bounded by their number.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def run(self, job: Callable[[], Result]) -> Result:
        """The job's result; what it raises is raised here."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)

    def close(self) -> None:
        """Wait for the running job and end the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)


class LiveModel:
    """An opened bundle with its puppeteer, its identities, and the thread that they are used in."""

    def __init__(self, bundle: Bundle, backend: Backend, landmarker_path: Path) -> None:
        self.bundle = bundle
        self.backend = backend
        self.worker = ModelWorker()
        self.puppeteer = Puppeteer(bundle, backend)
        self._landmarker_path = landmarker_path
        self._identities: dict[str, IdentityState] = {}

    @classmethod
    def open(cls, config: EngineConfig) -> LiveModel:
        """Raises BundleError, BackendMissingError, or AssetError: the face tracker has no model file."""
        bundle = Bundle.open(config.model)
        if not bundle.identity_names():
            raise BundleError(f"model {bundle.name} comes without an identity to show")
        backend = open_backend(config.backend, bundle.directory, threads=config.threads)
        return cls(bundle, backend, face_landmarker_path())

    def open_tracker(self) -> FaceTracker:
        """A face tracker for one source."""
        return FaceTracker(self._landmarker_path)

    async def identity(self, name: str) -> IdentityState:
        """An identity that came with the bundle, computed once. Raises UnknownSourceError."""
        names = self.bundle.identity_names()
        if name not in names:
            raise UnknownSourceError(f"There is no identity {name!r}; choices: {', '.join(names)}.")
        if name not in self._identities:
            self._identities[name] = await self.worker.run(lambda: self.puppeteer.identity_from_bank(name))
        return self._identities[name]

    async def identity_from_photos(self, photos: Sequence[bytes]) -> IdentityState:
        """An identity out of encoded photos. Raises BadMediaError and NoFaceError."""
        return await self.worker.run(lambda: self._read_identity(photos))

    async def warm_up(self) -> None:
        """Compile and run everything once, then keep what lives on out of the garbage collector's way."""
        identity = await self.identity(self.bundle.identity_names()[0])
        await self.worker.run(lambda: self._generate(identity))
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        gc.collect()
        gc.freeze()  # a full collection over a loaded model stops every thread for up to half a second

    def close(self) -> None:
        self.worker.close()
        self.backend.close()

    def _generate(self, identity: IdentityState) -> None:
        self.puppeteer.warm_up()
        for index in range(WARM_UP_FRAMES):
            codes = self.puppeteer.idle_codes(index / 25, identity)
            self.puppeteer.generate(identity, codes.pose_code, codes.expression_code, codes.content_code)

    def _read_identity(self, photos: Sequence[bytes]) -> IdentityState:
        pictures = []
        for photo in photos:
            picture = decode_picture(photo)
            if picture is None:
                raise BadMediaError(
                    "This file is not a photo that can be read; send a JPEG, PNG or WebP picture."
                )
            pictures.append(picture)
        tracker = self.open_tracker()
        try:
            return self.puppeteer.identity_from_portraits(pictures, tracker)
        finally:
            tracker.close()
