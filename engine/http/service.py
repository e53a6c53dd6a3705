"""What every handler works with: the settings, the model, the clock and the live sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web

from engine.clock import MediaClock
from engine.config import EngineConfig
from engine.control.presets import Presets
from engine.errors import EngineError
from engine.model_worker import LiveModel
from engine.performance import Performance
from engine.reader import ClipMemory
from engine.sessions import Session, Sessions
from engine.sources.file import ClipSource
from engine.sources.source import HearSound, Source
from engine.sources.still import StillSource

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


class Service:
    """One model and the sessions that it plays for."""

    def __init__(self, config: EngineConfig, model: LiveModel, clock: MediaClock) -> None:
        self.config = config
        self.model = model
        self.clock = clock
        self.sessions = Sessions(clock, config.max_sessions, config.session_idle_s)
        self.presets = Presets(config.presets_dir)
        self._clip_memory: ClipMemory = {}
        self._naming = asyncio.Lock()

    async def open_session(self, changes: Mapping[str, object], *, name: str | None = None) -> Session:
        """A started session with `changes` (the JSON of PATCH) applied; `name` becomes its id.

        Raises SessionLimitError, UnknownSourceError or BadMediaError, and then nothing is left behind.
        """
        self.sessions.check_room()
        identity = self.model.bundle.identity_names()[0]
        performance = Performance(
            clock=self.clock,
            config=self.config.performance,
            encoder=self.model.open_encoder(),
            generator=self.model.open_generator(),
            open_tracker=self.model.open_tracker,
            open_clip=self._open_clip,
            find_identity=self.model.identity,
            clip_memory=self._clip_memory,
            identity_name=identity,
            identity=await self.model.identity(identity),
        )
        session = self.sessions.add(performance, name)
        try:
            await performance.patch(changes)
        except EngineError:
            await self.sessions.end(session)
            raise
        return session

    async def named_session(self, name: str, changes: Mapping[str, object]) -> Session:
        """The live session of this name, opened with `changes` if there is none. Raises as open_session."""
        async with self._naming:
            return self.sessions.find(name) or await self.open_session(changes, name=name)

    def _open_clip(self, on_sound: HearSound) -> Source:
        clip = self.config.performance.clip
        if clip.suffix.lower() in PHOTO_SUFFIXES:
            return StillSource(clip, self.clock)
        return ClipSource(clip, self.clock, on_sound)


SERVICE = web.AppKey("service", Service)
SESSION = web.RequestKey("session", Session)
