"""Reading the JSON that describes a source or a sink, with an error that names the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from engine.errors import BadDescriptionError

T = TypeVar("T")


class Fields:
    """The fields of one description. Its readers raise BadDescriptionError for a value that does not fit."""

    def __init__(self, noun: str, description: Mapping[str, object]) -> None:
        """noun: what is described, for messages: "source" or "sink"."""
        self._noun = noun
        self._values = dict(description)

    def choice(self, name: str, choices: Mapping[str, T], default: str | None = None) -> T:
        """What a field chooses from a table; without a default it is required."""
        value = self._values.pop(name, default)
        if not isinstance(value, str) or value not in choices:
            raise self._error(name, f"one of {', '.join(choices)}", value)
        return choices[value]

    def text(self, name: str) -> str:
        value = self._values.pop(name, None)
        if not isinstance(value, str) or not value:
            raise self._error(name, "a text", value)
        return value

    def text_or_none(self, name: str) -> str | None:
        if self._values.get(name) is None:
            self._values.pop(name, None)
            return None
        return self.text(name)

    def number(self, name: str, default: float, *, least: float, most: float) -> float:
        value = self._values.pop(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self._error(name, f"a number from {least:g} to {most:g}", value)
        return float(value)

    def whole(self, name: str, default: int, *, least: int, most: int) -> int:
        value = self.number(name, default, least=least, most=most)
        if value != int(value):
            raise self._error(name, "a whole number", value)
        return int(value)

    def flag(self, name: str) -> bool:
        value = self._values.pop(name, False)
        if not isinstance(value, bool):
            raise self._error(name, "true or false", value)
        return value

    def objects(self, name: str) -> list[Mapping[str, object]]:
        """A list of objects; empty if it is not there."""
        values = self._values.pop(name, [])
        if not isinstance(values, list) or not all(isinstance(value, Mapping) for value in values):
            raise self._error(name, "a list of objects", values)
        return values

    def check_all_read(self) -> None:
        """Raises BadDescriptionError if a field is left that nobody asked for."""
        if self._values:
            raise BadDescriptionError(
                f"A {self._noun} of this kind has no field {next(iter(self._values))!r}."
            )

    def _error(self, name: str, wanted: str, value: object) -> BadDescriptionError:
        got = "nothing" if value is None else repr(value)
        return BadDescriptionError(f"The {self._noun}'s {name} must be {wanted}, got {got}.")
