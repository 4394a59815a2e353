"""Reading a :class:`~sectum.zoo.elastic.Space` from a TOML file. `docs/howto/search.md` documents its form.

The file is not trusted: its size, the number of stages and choices, and every number have limits.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from sectum.errors import SpaceInvalid
from sectum.zoo.elastic import Block, Head, Size, Sizes, Space, Stage, Stem
from sectum.zoo.layers import Nonlinearity

MOST_BYTES = 64 << 10
MOST_STAGES, MOST_CHOICES = 16, 64
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_FOLDER = "spaces"


class Limits(NamedTuple):
    """What a size may be.

    Attributes:
        least: the smallest.
        most: the largest.
        whole: whether it is a whole number.
        odd: whether it is odd.
    """

    least: float
    most: float
    whole: bool = True
    odd: bool = False

    def __str__(self) -> str:
        kind = "odd numbers" if self.odd else "whole numbers" if self.whole else "numbers"
        return f"{kind} from {self.least:g} to {self.most:g}"

    def allow(self, value: object) -> bool:
        """Whether a value is within the limits."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        whole = not self.whole or (isinstance(value, int) and (not self.odd or value % 2 == 1))
        return whole and self.least <= value <= self.most


LIMITS: Mapping[str, Limits] = {
    "resolution": Limits(16, 1024),
    "width": Limits(0.05, 8, whole=False),
    "classes": Limits(1, 100_000),
    "channels": Limits(1, 4096),
    "depth": Limits(1, 32),
    "kernel": Limits(1, 15, odd=True),
    "expansion": Limits(1, 16, whole=False),
    "stride": Limits(1, 4),
    "squeeze": Limits(0, 64),
    "hidden": Limits(0, 8192),
}
"""By the name of a size. `channels` of a head may be 0."""

_ONLY_OF = {"expansion": (Block.BOTTLENECK, Block.INVERTED), "squeeze": (Block.INVERTED,)}
"""Sizes that only some blocks have."""


def names() -> list[str]:
    """Names of the spaces that are shipped, as :func:`load` takes them."""
    return sorted(file.name.removesuffix(".toml") for file in (resources.files("sectum.zoo") / _FOLDER).iterdir())


def load(name: str) -> Space:
    """Read a space that is shipped, by one of :func:`names`, or a user's own, by the path of its file.

    Raises:
        SpaceInvalid: there is none, the file cannot be read, or it breaks a rule; the message says which and where.
    """
    if name in names():
        return parse((resources.files("sectum.zoo") / _FOLDER / f"{name}.toml").read_text(encoding="utf-8"), name)
    path = Path(name)
    if not path.is_file():
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise SpaceInvalid(
            f"there is no search space '{name}': {hint}Choose one of {', '.join(names())}, or write a TOML file"
        )
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise SpaceInvalid(f"{path} is larger than {MOST_BYTES >> 10} KiB: a search space is a short file")
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpaceInvalid(f"{path} cannot be read as text: {error}") from error
    return parse(text, str(path))


def parse(text: str, where: str) -> Space:
    """Read the text of a space; ``where`` begins each message.

    Raises:
        SpaceInvalid: it breaks a rule; the message says which and where.
    """
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SpaceInvalid(f"{where} is no TOML file: {error}") from error
    return _space(_Table(where, content))


class _Table:
    """A table of the file. Each value is asked for once; what nobody asked for is unknown."""

    def __init__(self, where: str, content: object) -> None:
        if not isinstance(content, dict):
            raise SpaceInvalid(f"{where} is {_shown(content)}: write a table")
        self.where, self._content, self._asked = where, content, set[str]()

    def error(self, key: str, problem: str) -> SpaceInvalid:
        return SpaceInvalid(f"{self.where}: {key} {problem}")

    def take(self, key: str, default: Any = None) -> Any:
        self._asked.add(key)
        return self._content.get(key, default)

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def table(self, key: str) -> _Table:
        return _Table(f"{self.where}, {key}", self.take(key, {}))

    def one(self, key: str, default: int, limits: Limits | None = None) -> int:
        """A number that is no choice."""
        value, limits = self.take(key, default), limits or LIMITS[key]
        if not limits.allow(value):
            raise self.error(key, f"is {_shown(value)}: write one of the {limits}")
        return int(value)

    def sizes(self, key: str, default: Sizes = ()) -> Sizes:
        """One number, or a list or a range of choices."""
        if key not in self and not default:
            raise self.error(key, f"is missing: write one of the {LIMITS[key]}, or a list of them")
        value = self.take(key, list(default))
        if isinstance(value, dict):
            value = self._range(key, value)
        choices = value if isinstance(value, list) else [value]
        if not choices:
            raise self.error(key, "is an empty list: the space would be empty; write at least one choice")
        if len(choices) > MOST_CHOICES:
            raise self.error(key, f"has {len(choices):,} choices: write at most {MOST_CHOICES}")
        for choice in choices:
            if not LIMITS[key].allow(choice):
                raise self.error(key, f"contains {_shown(choice)}: write {LIMITS[key]}")
        if len(set(choices)) < len(choices):
            raise self.error(key, f"contains a number twice: {_shown(choices)}; write each once")
        return tuple(choices)

    def _range(self, key: str, table: dict[str, Any]) -> list[Size]:
        inner = _Table(f"{self.where}, {key}", table)
        first, last, step = (inner.take(name, default) for name, default in (("from", None), ("to", None), ("step", 1)))
        inner.finish()
        for name, value in (("from", first), ("to", last), ("step", step)):
            if not Limits(1e-3, 1e6, whole=False).allow(value):
                raise inner.error(name, f"is {_shown(value)}: a range is {{from = 1, to = 3, step = 1}}")
        if first > last:
            raise inner.error("from", f"is {first} and to is {last}: the range is empty; from may not be above to")
        steps = math.floor((last - first) / step + 1e-9)
        if steps >= MOST_CHOICES:
            raise self.error(key, f"has {steps + 1:,} choices: write at most {MOST_CHOICES}")
        return [round(first + index * step, 6) for index in range(steps + 1)]

    def word(self, key: str, words: Iterable[str], default: str = "") -> str:
        """One of some words."""
        value = self.take(key, default or None)
        words = list(words)
        if not isinstance(value, str) or value not in words:
            told = "is missing" if value is None else f"is {_shown(value)}"
            raise self.error(key, f"{told}: write one of {', '.join(words)}")
        return value

    def flag(self, key: str) -> bool:
        value = self.take(key, False)
        if not isinstance(value, bool):
            raise self.error(key, f"is {_shown(value)}: write true or false")
        return value

    def finish(self) -> None:
        """Refuse what nobody asked for."""
        for key in self._content:
            if key not in self._asked:
                close = difflib.get_close_matches(key, sorted(self._asked), n=1)
                known = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(self._asked))}"
                raise self.error(_shown(key), f"is unknown: {known}")


def _space(table: _Table) -> Space:
    name = table.take("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise table.error("name", f"is {_shown(name)}: write up to 40 small letters, digits, '-' and '_'")
    stages = table.take("stage", [])
    if not isinstance(stages, list) or not stages:
        raise table.error("stage", "is missing: the space is empty; write at least one [[stage]]")
    if len(stages) > MOST_STAGES:
        raise table.error("stage", f"is there {len(stages):,} times: write at most {MOST_STAGES}")
    space = Space(
        name=name,
        stem=_finished(table.table("stem"), _stem),
        stages=tuple(
            _finished(_Table(f"{table.where}, stage {number}", stage), _stage) for number, stage in enumerate(stages, 1)
        ),
        head=_finished(table.table("head"), _head),
        resolution=table.sizes("resolution", (224,)),
        width=table.sizes("width", (1,)),
        classes=table.one("classes", 1000),
    )
    table.finish()
    return space


def _finished(table: _Table, read: Callable[[_Table], Any]) -> Any:
    made = read(table)
    table.finish()
    return made


def _stem(table: _Table) -> Stem:
    return Stem(
        channels=table.sizes("channels", (32,)),
        kernel=table.sizes("kernel", (3,)),
        stride=table.one("stride", 2),
        pool=table.flag("pool"),
        activation=_activation(table),
    )


def _stage(table: _Table) -> Stage:
    block = Block(table.word("block", Block))
    for key, blocks in _ONLY_OF.items():
        if key in table and block not in blocks:
            raise table.error(key, f"contradicts the block {block}: only {' and '.join(blocks)} have one")
    return Stage(
        block=block,
        channels=table.sizes("channels"),
        depth=table.sizes("depth", (1,)),
        kernel=table.sizes("kernel", (3,)),
        expansion=table.sizes("expansion", (1,)),
        stride=table.one("stride", 1),
        activation=_activation(table),
        squeeze=table.one("squeeze", 0),
    )


def _head(table: _Table) -> Head:
    return Head(
        channels=table.one("channels", 0, LIMITS["channels"]._replace(least=0)),
        hidden=table.one("hidden", 0),
        activation=_activation(table),
    )


def _activation(table: _Table) -> Nonlinearity:
    return Nonlinearity(table.word("activation", Nonlinearity, Nonlinearity.RELU))


def _shown(value: object) -> str:
    """A value of the file in a message, shortened."""
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
