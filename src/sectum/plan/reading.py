"""Checks the JSON types of a plan that may have been edited, or be hostile."""

from __future__ import annotations

from typing import Any

from sectum.errors import ArtefactInvalid

_MOST_NUMBER = 1 << 46


class Reader:
    """Checks JSON types of a plan.

    Args:
        origin: where the plan is from, for messages.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin

    def error(self, name: str, expected: str) -> ArtefactInvalid:
        """The error for a field that is not what was expected."""
        return ArtefactInvalid(f"{self._origin}: {name:.80} must be {expected}; make the plan again with 'sectum plan'")

    def mapping(self, value: object, name: str, fields: frozenset[str] | None = None) -> dict[str, Any]:
        """An object that has no other fields than these; any where they are None.

        Raises:
            ArtefactInvalid: it is none, or has others, which would be of no effect.
        """
        if not isinstance(value, dict):
            raise self.error(name, "an object")
        if fields is not None and (others := sorted(value.keys() - fields)):
            raise ArtefactInvalid(
                f"{self._origin}: {name:.80} has the field '{others[0]:.40}', which plans do not have: correct its "
                "name, or take it out"
            )
        return value

    def items(self, value: object, name: str, most: int) -> list[Any]:
        """A list of at most so many items.

        Raises:
            ArtefactInvalid: it is none, or longer.
        """
        if not isinstance(value, list) or len(value) > most:
            raise self.error(name, f"a list of at most {most} items")
        return value

    def text(self, value: object, name: str) -> str:
        """A text that is not empty.

        Raises:
            ArtefactInvalid: it is none, empty or very long.
        """
        if not isinstance(value, str) or not 0 < len(value) <= 4096:
            raise self.error(name, "a text")
        return value

    def number(self, value: object, name: str, least: int, most: int = _MOST_NUMBER) -> int:
        """A whole number.

        Raises:
            ArtefactInvalid: it is none, or out of its range.
        """
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.error(name, f"a whole number from {least} to {most}")
        return value

    def amount(self, value: object, name: str, least: float, most: float) -> float:
        """A number.

        Raises:
            ArtefactInvalid: it is none, or out of its range.
        """
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
            raise self.error(name, f"a number from {least:g} to {most:g}")
        return float(value)
