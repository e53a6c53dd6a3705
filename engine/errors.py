"""Errors the engine raises on purpose: each message tells a person what to do next."""

from __future__ import annotations


class EngineError(Exception):
    """Base of every deliberate error. `message` is one sentence meant for a person."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NoFaceError(EngineError):
    """A photo or a video shows no face that could be tracked."""


class BadMediaError(EngineError):
    """A file or an upload is not an image, video or sound that can be decoded."""


class BackendMissingError(EngineError):
    """An inference backend was asked for that is not installed here."""


class EncoderMissingError(EngineError):
    """A video encoder was asked for that does not work on this machine."""


class BundleError(EngineError):
    """A model bundle is missing, damaged, or does not fit this engine."""


class UnknownSessionError(EngineError):
    """No live session has this id."""


class PortInUseError(EngineError):
    """The address to serve on is already taken."""


class BadOfferError(EngineError):
    """A session description cannot be read, or is not what this address takes."""


class UnsupportedOfferError(EngineError):
    """A session description is sound but asks for media or codecs that are not served here."""


class ControlError(EngineError):
    """A change to a live session that cannot be made: a setting out of range, an unknown key or preset."""


class UnknownPresetError(ControlError):
    """There is no preset of this name."""


class UnknownSourceError(ControlError):
    """A socket was to be patched to a source, or an identity chosen, that does not exist."""


class SessionLimitError(EngineError):
    """All live sessions that this machine is set to hold are taken."""


class BadDescriptionError(EngineError):
    """A source or a sink was described in a way that none can be opened by."""


class DeviceMissingError(EngineError):
    """A camera, a microphone or a virtual device is not there, or what drives it is not installed."""


class GpuError(EngineError):
    """A GPU is missing, out of memory, or was lost in the middle of its work."""


class GpuMemoryError(GpuError):
    """The GPU has no room for what a network needs."""


class GpuLostError(GpuError):
    """The GPU failed in a way that leaves nothing on it usable: everything there must be made anew."""
