"""A stage that runs strip by strip: of what lies between its operators, only some rows are in the enclave at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sectum.enclave.streaming.matching import Read
from sectum.enclave.streaming.strip_operator import Rows, StripOperator


@dataclass(frozen=True, slots=True)
class Strip:
    """One strip: what each operator does, the rows that it reads of each source, and those that each result gets."""

    operators: tuple[StripOperator, ...]
    sources: tuple[Rows, ...]
    results: tuple[Rows, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor that strips read: who makes it, its shape, and its blocks of rows: images times channels, or blocks."""

    tensor: Read
    shape: tuple[int, ...]
    outer: int


@dataclass(frozen=True, slots=True)
class Result:
    """A tensor that strips make.

    Attributes:
        operator: its maker's place in the stage.
        shape: of the whole.
        outer: blocks of rows.
        over: source whose memory it takes over, as strips leave it; None where it has memory of its own.
    """

    operator: int
    shape: tuple[int, ...]
    outer: int
    over: int | None


@dataclass(frozen=True, slots=True)
class Strips:
    """How a stage runs strip by strip.

    Attributes:
        sources: that strips read by rows.
        results: that other stages read.
        outer: for each operator, blocks of rows of its result.
        strips: in order.
    """

    sources: tuple[Source, ...]
    results: tuple[Result, ...]
    outer: tuple[int, ...]
    strips: tuple[Strip, ...]

    @staticmethod
    def of(data: Mapping[str, Any]) -> Strips:
        """Read them from JSON types.

        Raises:
            ValueError: the strips do not cover each result, once and in order.
        """
        found = Strips(
            sources=tuple(Source(_read(one["tensor"]), tuple(one["shape"]), one["outer"]) for one in data["sources"]),
            results=tuple(
                Result(one["operator"], tuple(one["shape"]), one["outer"], one["over"]) for one in data["results"]
            ),
            outer=tuple(data["outer"]),
            strips=tuple(
                Strip(
                    tuple(
                        StripOperator(
                            _rows(one["made"]),
                            tuple(None if rows is None else _rows(rows) for rows in one["reads"]),
                            None if one["pads"] is None else tuple(one["pads"]),
                        )
                        for one in strip["operators"]
                    ),
                    tuple(map(_rows, strip["sources"])),
                    tuple(map(_rows, strip["results"])),
                )
                for strip in data["strips"]
            ),
        )
        found.check()
        return found

    def check(self) -> None:
        """Refuse strips that leave rows out, or that read or make rows that are not there.

        Raises:
            ValueError: they do.
        """
        for place, result in enumerate(self.results):
            ends = [strip.results[place] for strip in self.strips]
            following = 0
            for begin, end in ends:
                if begin != following or end <= begin:
                    raise ValueError("a strip does not begin with the row where the one before ends")
                following = end
            if following != result.shape[2]:
                raise ValueError(f"the strips end before row {following} of {result.shape[2]}")
        for strip in self.strips:
            for source, (begin, end) in zip(self.sources, strip.sources, strict=True):
                if not 0 <= begin < end <= source.shape[2]:
                    raise ValueError(f"a strip reads rows {begin} to {end} of {source.shape[2]}")
            for result, (begin, end) in zip(self.results, strip.results, strict=True):
                made = strip.operators[result.operator].made
                if not made[0] <= begin < end <= made[1]:
                    raise ValueError(f"a strip makes rows {made[0]} to {made[1]} and hands on rows {begin} to {end}")


def _read(data: Any) -> Read:
    return (data[0], data[1]) if isinstance(data, list) else data


def _rows(data: Sequence[int]) -> Rows:
    begin, end = data
    return int(begin), int(end)


class _Shared:
    """Memory that belongs to another object, which stays alive with it."""

    def __init__(self, owner: onnxruntime.OrtValue, n_bytes: int) -> None:
        self._owner = owner
        self.__array_interface__ = {
            "shape": (n_bytes,), "typestr": "|u1", "data": (owner.data_ptr(), False), "version": 3,
        }  # fmt: skip


def array_of(value: onnxruntime.OrtValue) -> NDArray[np.float32]:
    """The values of a result of strips, where they are; the runtime's own array would not keep their memory alive."""
    shape = tuple(value.shape())
    return np.asarray(_Shared(value, _bytes(shape))).view(np.float32).reshape(shape)


class StripStage:
    """Runs a stage strip by strip.

    A strip's rows are copied from the sources, and what it makes is copied into the results once the next strip's rows
    have been copied: so a result can lie over a source.

    Args:
        strips: what each strip reads and makes.
        sessions: one for each form of a strip.
        forms: for each strip, the number of its session.
        names: of the sources, of what each strip reads as a whole, and of the results.
        take: gives memory for activations.
    """

    def __init__(
        self,
        strips: Strips,
        sessions: Sequence[onnxruntime.InferenceSession],
        forms: Sequence[int],
        names: tuple[Sequence[str], Sequence[str], Sequence[str]],
        take: Callable[[int], NDArray[np.uint8]],
    ) -> None:
        self._strips, self._sessions, self._forms, self._take = strips, sessions, forms, take
        self._sources, self._wholes, self.results = names
        self._most = [
            max(_bytes(source.shape, strip.sources[place]) for strip in strips.strips)
            for place, source in enumerate(strips.sources)
        ]

    def run(self, values: Mapping[str, onnxruntime.OrtValue]) -> dict[str, onnxruntime.OrtValue]:
        """Run all strips.

        Args:
            values: that are alive.

        Returns:
            The stage's results.

        Raises:
            ValueError: a source has another shape or type than the plan says.
        """
        strips = self._strips
        wholes = [self._source(values[name], one) for name, one in zip(self._sources, strips.sources, strict=True)]
        made = [self._result(one, wholes) for one in strips.results]
        targets = [_by_rows(one, result) for one, result in zip(made, strips.results, strict=True)]
        origins = [_by_rows(one, source) for one, source in zip(wholes, strips.sources, strict=True)]
        copies = [self._take(n_bytes) for n_bytes in self._most]
        feeds = {name: values[name] for name in self._wholes}
        waiting: list[onnxruntime.OrtValue] = []
        before: Strip | None = None
        for strip, form in zip(strips.strips, self._forms, strict=True):
            for name, source, origin, copy, rows in zip(
                self._sources, strips.sources, origins, copies, strip.sources, strict=True
            ):
                feeds[name] = _copied(origin, source, copy, rows)
            self._hand_on(before, waiting, targets)
            waiting = self._sessions[form].run_with_ort_values(self.results, feeds)
            before = strip
        self._hand_on(before, waiting, targets)
        return {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(one.view(np.float32).reshape(result.shape))
            for name, one, result in zip(self.results, made, strips.results, strict=True)
        }

    def _hand_on(
        self, strip: Strip | None, made: list[onnxruntime.OrtValue], targets: Sequence[NDArray[np.float32]]
    ) -> None:
        """Copy what a strip has made into the results, and free it."""
        if strip is None:
            return
        for value, target, result, (begin, end) in zip(made, targets, self._strips.results, strip.results, strict=True):
            first, last = strip.operators[result.operator].made
            rows = np.asarray(_Shared(value, _bytes(result.shape, (first, last)))).view(np.float32)
            np.copyto(
                target[:, begin:end], rows.reshape(result.outer, last - first, -1)[:, begin - first : end - first]
            )
        made.clear()

    @staticmethod
    def _source(value: onnxruntime.OrtValue, source: Source) -> NDArray[np.uint8]:
        if value.data_type() != "tensor(float)" or tuple(value.shape()) != source.shape:
            raise ValueError(
                f"a value is {value.data_type()} of shape {tuple(value.shape())} where the plan has {source.shape}"
            )
        return np.asarray(_Shared(value, _bytes(source.shape)))

    def _result(self, result: Result, sources: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        n_bytes = _bytes(result.shape)
        return self._take(n_bytes) if result.over is None else sources[result.over][:n_bytes]


def _bytes(shape: Sequence[int], rows: Rows | None = None) -> int:
    height = shape[2] if rows is None else rows[1] - rows[0]
    return 4 * shape[0] * shape[1] * height * shape[3]


def _by_rows(memory: NDArray[np.uint8], tensor: Source | Result) -> NDArray[np.float32]:
    """A tensor as blocks of rows: shape ``(outer, rows, values of a row)``."""
    return memory.view(np.float32).reshape(tensor.outer, tensor.shape[2], -1)


def _copied(origin: NDArray[np.float32], source: Source, copy: NDArray[np.uint8], rows: Rows) -> onnxruntime.OrtValue:
    """Some rows of a source, side by side."""
    begin, end = rows
    strip = copy[: _bytes(source.shape, rows)].view(np.float32)
    np.copyto(strip.reshape(source.outer, end - begin, -1), origin[:, begin:end])
    shape = (*source.shape[:2], end - begin, source.shape[3])
    return onnxruntime.OrtValue.ortvalue_from_numpy(strip.reshape(shape))
