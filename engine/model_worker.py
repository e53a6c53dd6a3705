"""The model, and the threads in which everything heavy runs: driving media, pictures, identities.

While the picture of one frame is generated the driver of the next is tracked and encoded, and no picture is
late because somebody takes on another face. Each thread has a backend of its own, because a backend belongs
to one thread; networks are compiled only where they are used. On a CPU several sessions' pictures are drawn
at once, by as many threads. Where a device gains by it (`--batching`) they are drawn together; each session
then prepares and finishes its own in its own thread.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from engine.assets import face_landmarker_path
from engine.backends.abilities import BATCH_SIZES, in_parallel, preferred_batch
from engine.backends.backend import Backend, open_backends
from engine.batching import Batcher, Seat
from engine.bundle import Bundle
from engine.clock import MediaClock
from engine.compositor import decode_picture
from engine.config import EngineConfig
from engine.errors import BadMediaError, BundleError, UnknownSourceError
from engine.face_tracker import FaceTracker
from engine.puppeteer import IdentityState, Puppeteer
from gcavt.audio import MEL_BANDS, WINDOW_FRAMES
from gcavt.preprocessing import CROP_PX

Result = TypeVar("Result")

WARM_UP_FRAMES = 3
ENCODING_NICENESS = 4
IDENTITY_NICENESS = 10
SWITCH_INTERVAL_S = 0.0005
"""How long a thread may keep the interpreter from the others: a tenth of Python's default."""


class Crew:
    """Threads with a puppeteer each, so that the event loop never computes.

    A performance hands in one job at a time and waits for it: what queues here is bounded by their number.
    """

    def __init__(self, name: str, bundle: Bundle, *backends: Backend, niceness: int = 0) -> None:
        """backends: one for each of the threads.

        niceness above 0: what the threads, and what they start, give way by where processors are short.
        """
        self.backend = backends[0]
        self._backends = backends
        # the last one to be given back is taken first: a lone session keeps to one, whose memory is warm
        self._free = [Puppeteer(bundle, backend) for backend in reversed(backends)]
        self._threads = ThreadPoolExecutor(
            len(backends), thread_name_prefix=name, initializer=partial(yield_to_others, niceness)
        )

    async def run(self, job: Callable[[Puppeteer], Result]) -> Result:
        """The job's result; what it raises is raised here."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._do, job)

    def close(self) -> None:
        """Wait for the running jobs, end the threads, free the networks."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for backend in self._backends:
            backend.close()

    def _do(self, job: Callable[[Puppeteer], Result]) -> Result:
        puppeteer = self._free.pop()
        try:
            return job(puppeteer)
        finally:
            self._free.append(puppeteer)


class ModelWorker:
    """A session's place at a crew, which does its jobs one after the other."""

    def __init__(self, crew: Crew) -> None:
        self.backend = crew.backend
        self._crew = crew
        self._turn = threading.Lock()

    async def run(self, job: Callable[[Puppeteer], Result], *, deadline_ns: int | None = None) -> Result:
        """The job's result; what it raises is raised here.

        deadline_ns: when it should be done, for those who draw together with others.
        """
        return await self._crew.run(partial(self._in_turn, job))

    async def release(self) -> None:
        """A session needs it no longer: nothing to do for a crew that all share."""

    def _in_turn(self, job: Callable[[Puppeteer], Result], puppeteer: Puppeteer) -> Result:
        # a picture that nobody waits for any more, because its performance began anew, is still being made
        with self._turn:
            return job(puppeteer)


class SeatedWorker(ModelWorker):
    """One session's own thread, whose pictures are drawn together with those of the others."""

    def __init__(self, bundle: Bundle, seat: Seat) -> None:
        super().__init__(Crew("compose", bundle, seat))
        self._seat = seat

    async def run(self, job: Callable[[Puppeteer], Result], *, deadline_ns: int | None = None) -> Result:
        self._seat.deadline_ns = deadline_ns
        return await super().run(job)

    async def release(self) -> None:
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        self._crew.close()


class LiveModel:
    """An opened bundle with its identities and the threads that work with it."""

    def __init__(
        self,
        bundle: Bundle,
        encoding: Backend,
        generating: Backend,
        identifying: Backend,
        landmarker_path: Path,
        *,
        batch: int = 1,
        readers: int = 1,
        painters: int = 1,
        max_sessions: int = 1,
        clock: MediaClock | None = None,
    ) -> None:
        """batch: how many sessions' pictures are drawn together; 1: each by itself.
        readers, painters: of how many sessions drivers are read, and pictures then drawn, at once, in threads
        of their own, by backends that can do that.
        """
        self.bundle = bundle
        self.batcher: Batcher | None = None
        self._clock = clock or MediaClock()
        self._max_sessions = max_sessions
        # a picture takes longer than a reading and is due next: it goes first
        self._encoders = Crew("encode", bundle, *in_parallel(encoding, readers), niceness=ENCODING_NICENESS)
        self.encoder = self.open_encoder()
        """For what belongs to no session, as `generator`."""
        self._generators: Crew | None = None
        if batch > 1:
            self.batcher = Batcher(generating, batch, self._clock)
        else:
            self._generators = Crew("generate", bundle, *in_parallel(generating, painters))
        self.generator = self.open_generator()
        self._identifier = Crew("identify", bundle, identifying, niceness=IDENTITY_NICENESS)
        self._landmarker_path = landmarker_path
        self._identities: dict[str, IdentityState] = {}

    @classmethod
    def open(cls, config: EngineConfig) -> LiveModel:
        """Raises BundleError, BackendMissingError, or AssetError: the face tracker has no model file."""
        bundle = Bundle.open(config.model)
        if not bundle.identity_names():
            raise BundleError(f"model {bundle.name} comes without an identity to show")
        shares = sharing(config.threads, config.max_sessions)
        if config.batching == "on":  # one paints for all
            shares = sharing(config.threads, 1)._replace(readers=shares.readers)
        encoding, generating, identifying = open_backends(
            config.backend, bundle.directory, [shares.encoding, shares.generating, shares.identifying]
        )
        return cls(
            bundle,
            encoding,
            generating,
            identifying,
            face_landmarker_path(),
            batch=batch_size(config, generating),
            readers=shares.readers,
            painters=shares.painters,
            max_sessions=config.max_sessions,
        )

    def open_encoder(self) -> ModelWorker:
        """Where a session's drivers are read."""
        return ModelWorker(self._encoders)

    def open_generator(self) -> ModelWorker:
        """Where a session's pictures are made; the session releases it at its end."""
        if self._generators is not None:
            return ModelWorker(self._generators)
        assert self.batcher is not None
        return SeatedWorker(self.bundle, Seat(self.batcher, self._clock))

    def open_tracker(self) -> FaceTracker:
        """A face tracker for one source."""
        return FaceTracker(self._landmarker_path, reads_shapes=False)

    async def identity(self, name: str) -> IdentityState:
        """An identity that came with the bundle, computed once. Raises UnknownSourceError."""
        names = self.bundle.identity_names()
        if name not in names:
            raise UnknownSourceError(f"There is no identity {name!r}; choices: {', '.join(names)}.")
        if name not in self._identities:
            self._identities[name] = await self._identifier.run(
                lambda puppeteer: puppeteer.identity_from_bank(name)
            )
        return self._identities[name]

    async def identity_from_photos(self, photos: Sequence[bytes]) -> IdentityState:
        """An identity out of encoded photos. Raises BadMediaError and NoFaceError."""
        return await self._identifier.run(lambda puppeteer: self._read_identity(puppeteer, photos))

    async def warm_up(self) -> None:
        """Compile and run everything once, then keep what lives on out of the garbage collector's way."""
        identity = await self.identity(self.bundle.identity_names()[0])
        await asyncio.gather(
            self.encoder.run(_encode_once), self.generator.run(lambda p: self._draw_once(p, identity))
        )
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        gc.collect()
        gc.freeze()  # a full collection over a loaded model stops every thread for up to half a second

    def close(self) -> None:
        self._encoders.close()
        if isinstance(self.generator, SeatedWorker):
            self.generator.close()
        for generators in (self._generators, self.batcher):
            if generators is not None:
                generators.close()
        self._identifier.close()

    def _draw_once(self, puppeteer: Puppeteer, identity: IdentityState) -> None:
        _generate_once(puppeteer, identity)
        if self.batcher is not None:
            codes = puppeteer.idle_codes(0, identity)
            inputs = puppeteer.generator_inputs(
                identity, codes.pose_code, codes.expression_code, codes.content_code
            )
            self.batcher.warm_up(inputs, self._max_sessions)

    def _read_identity(self, puppeteer: Puppeteer, photos: Sequence[bytes]) -> IdentityState:
        pictures = []
        for photo in photos:
            picture = decode_picture(photo)
            if picture is None:
                raise BadMediaError(
                    "This file is not a photo that can be read; send a JPEG, PNG or WebP picture."
                )
            pictures.append(picture)
        with self.open_tracker() as tracker:
            return puppeteer.identity_from_portraits(pictures, tracker)


def yield_to_others(niceness: int) -> None:
    """Let this thread, and what it starts, give way where processors are short."""
    if niceness and sys.platform == "linux":  # elsewhere niceness belongs to processes
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


def batch_size(config: EngineConfig, backend: Backend) -> int:
    """How many pictures are drawn at once: as many as the backend prefers, unless told otherwise."""
    if config.batching == "off" or config.max_sessions == 1:
        return 1
    if config.batching == "on":
        return max(preferred_batch(backend), min(config.max_sessions, BATCH_SIZES[-1]))
    return preferred_batch(backend)


class Sharing(NamedTuple):
    """How the cores are shared."""

    readers: int
    """Sessions whose drivers are tracked and encoded at once."""
    painters: int
    """Pictures that are drawn at once."""
    encoding: int
    """Threads of each network, as of the next two."""
    generating: int
    identifying: int


def sharing(wanted: int | None, sessions: int) -> Sharing:
    """wanted: threads of each network. sessions: how many at most.

    Left to themselves the encoders get one, and what is drawn at once shares the cores but one. A second
    thread draws a picture hardly sooner at 25 a second and takes half as much processor time again; another
    painter draws another session's (docs/backends.md). Tracking and encoding take 15 ms of 40, so that one
    reader has no time for three sessions; on two cores a second one would find no core.
    """
    cores = os.cpu_count() or 2
    painters = max(1, min(sessions, cores // (wanted or 1)))
    readers = max(1, min(sessions, cores // (2 * (wanted or 1))))
    if wanted is not None:
        return Sharing(readers, painters, wanted, wanted, wanted)
    return Sharing(readers, painters, 1, max(1, (cores - 1) // painters), 1)


def _encode_once(puppeteer: Puppeteer) -> None:
    crop_HWC = np.full((CROP_PX, CROP_PX, 3), 127, np.uint8)
    landmarks_68 = np.random.default_rng(0).uniform(64, 192, (68, 2)).astype(np.float32)
    for _ in range(WARM_UP_FRAMES):
        puppeteer.codes_of_face(crop_HWC, landmarks_68)
        puppeteer.content_code_from_mel(np.zeros((MEL_BANDS, WINDOW_FRAMES), np.float32))


def _generate_once(puppeteer: Puppeteer, identity: IdentityState) -> None:
    for index in range(WARM_UP_FRAMES):
        codes = puppeteer.idle_codes(index / 25, identity)
        puppeteer.generate(identity, codes.pose_code, codes.expression_code, codes.content_code)
