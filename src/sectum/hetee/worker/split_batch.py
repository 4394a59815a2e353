"""Splits one batch over several accelerators, item by item, and joins their outputs in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sectum.hetee.data_plane.messages import Pace
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.worker.accelerators.protocol import Arrays, RunnableModel, Stop
from sectum.hetee.worker.independent_items import why_mixed
from sectum.hetee.worker.models import CheckedModel, batch_refused
from sectum.hetee.worker.team import Helper

_KEPT = 32  # answers; a session has at most as many models


class SplitRule:
    """Says which batches may be split, and keeps its answers."""

    def __init__(self) -> None:
        self._answers: dict[tuple[bytes, tuple[tuple[str, tuple[int, ...]], ...]], str | None] = {}

    def check(self, model: CheckedModel, arrays: Arrays) -> None:
        """Check that a batch can be split with the outputs of the whole batch.

        Raises:
            WorkRefused: ``INPUT_REFUSED``, an input or an output has no item in its first dimension, or the model may
                mix items.
        """
        shapes = {name: array.shape for name, array in arrays.items()}
        if why := self._why_not(model, shapes):
            raise batch_refused(f"the batch cannot be split: {why}; send it without 'split'"[:500])

    def _why_not(self, model: CheckedModel, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
        if not shapes or len({shape[:1] for shape in shapes.values()}) != 1 or () in shapes.values():
            return "its inputs have not the same number of items in their first dimension"
        fixed = [slot.name for slot in model.inputs if slot.shape and isinstance(slot.shape[0], int)]
        if fixed:
            return f"the model fixes the number of items of its input '{fixed[0][:40]}'"
        key = model.sha256, tuple((name, shape[1:]) for name, shape in shapes.items())
        if key not in self._answers:
            if len(self._answers) >= _KEPT:
                self._answers.clear()
            self._answers[key] = why_mixed(model.content, shapes)
        return self._answers[key]


def run_parts(
    own: RunnableModel,
    helpers: Sequence[Helper],
    arrays: Arrays,
    outputs: tuple[str, ...],
    stop: Stop,
    pace: Pace | None,
) -> list[NDArray[Any]]:
    """Compute a batch in as many parts as there are accelerators, whose numbers of items differ by at most one.

    Args:
        own: the model on the accelerator whose thread calls this.
        helpers: other accelerators, which have the model; fewer than the batch has items.
        arrays: the inputs, which `SplitRule` has checked.
        outputs: names of the wanted outputs.
        stop: ends all parts early.
        pace: published times; each part waits for its share.

    Returns:
        The outputs of the whole batch, in the order of their names.

    Raises:
        WorkRefused: of the first part that failed.
        MemoryError: there is not enough memory.
    """
    items, parts = len(next(iter(arrays.values()))), 1 + len(helpers)
    ends = [items * number // parts for number in range(parts + 1)]
    stops, failed = [Stop() for _ in range(parts)], list[BaseException]()

    def end() -> None:
        for each in stops:
            each.set()

    def compute(number: int, model: RunnableModel) -> list[NDArray[Any]]:
        begin, begin_of_next = ends[number], ends[number + 1]
        share = pace and replace(pace, compute_us=-(-pace.compute_us * (begin_of_next - begin) // items))
        try:
            given = {name: array[begin:begin_of_next] for name, array in arrays.items()}
            made = model.run(given, outputs, stops[number], share)
            _check(made, outputs, begin_of_next - begin)
        except BaseException as error:
            failed.append(error)
            end()
            raise
        return made

    with stop.calling(end):
        others = [helper.submit(partial(compute, number)) for number, helper in enumerate(helpers, 1)]
        made = []
        with suppress(BaseException):  # raised below, when no part computes any more
            made.append(compute(0, own))
        made += [other.result() for other in others if other.exception() is None]
    if failed:
        raise failed[0]
    return [np.concatenate(pieces) for pieces in zip(*made, strict=True)]


def _check(made: list[NDArray[Any]], outputs: tuple[str, ...], items: int) -> None:
    for name, array in zip(outputs, made, strict=True):
        if not isinstance(array, np.ndarray) or array.shape[:1] != (items,):
            why = f"the output '{name[:40]}' of a part has not one entry for each of its items"
            raise refusal(Refusal.COMPUTE_FAILED, f"{why}: send the batch without 'split'")
