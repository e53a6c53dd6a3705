"""Sound devices of this machine, through PortAudio (the package sounddevice), found by name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

from engine.errors import DeviceMissingError

Direction = Literal["input", "output"]

HOW_TO_INSTALL = "pip install 'gcavt-live[desktop]', and on Linux also the system's package libportaudio2"


@dataclass(frozen=True)
class SoundDevice:
    """A device as PortAudio numbers it."""

    number: int
    name: str


def sounddevice() -> Any:
    """The module. Raises DeviceMissingError saying what to install."""
    try:
        return importlib.import_module("sounddevice")
    except (ImportError, OSError) as error:  # OSError: the package is there, the library is not
        raise DeviceMissingError(f"Sound devices need PortAudio ({error}): {HOW_TO_INSTALL}.") from error


def list_sound_devices(direction: Direction) -> list[SoundDevice]:
    """The devices that sound comes from ("input") or goes to ("output"). Raises DeviceMissingError."""
    devices = sounddevice().query_devices()
    return [
        SoundDevice(number, str(device["name"]))
        for number, device in enumerate(devices)
        if device[f"max_{direction}_channels"] > 0
    ]


def find_sound_device(wanted: str | None, direction: Direction) -> int | None:
    """The number of the device with this number or this in its name; None for the system's choice.

    Raises DeviceMissingError naming the devices there are.
    """
    devices = list_sound_devices(direction)
    if wanted is None and devices:
        return None
    for device in devices:
        if wanted is not None and (wanted == str(device.number) or wanted.lower() in device.name.lower()):
            return device.number
    word = {"input": "microphone", "output": "sound output"}[direction]
    names = ", ".join(device.name for device in devices) or "none"
    called = f" called {wanted!r}" if wanted else ""
    raise DeviceMissingError(f"There is no {word}{called} here; this machine has: {names}.")
