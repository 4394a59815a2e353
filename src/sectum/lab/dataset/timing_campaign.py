"""What the two campaigns share that time operators natively: collecting, and the messages of their commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from sectum.lab.dataset.shards import Form, Record, ShardWriter, machine_name
from sectum.measure.context import machine_context


class _Task(Protocol):
    @property
    def key(self) -> str: ...


T = TypeVar("T", bound=_Task)


def collected(folder: Path, tasks: Sequence[T], run: Callable[[T], Record], form: Form) -> Iterator[tuple[int, Record]]:
    """Run and store the tasks that the folder does not hold yet; yields each with its number.

    Raises:
        UsageError: pyarrow is not installed.
        DatasetBusy: another process collects into this folder.
        DatasetInvalid: the folder holds other files than shards of this form.
        OSError: the disk is full; what was stored stays.
    """
    context = machine_context()
    with ShardWriter(folder, machine_name(str(context["cpu_model"])), context, form) as writer:
        try:
            for index, task in enumerate(tasks):
                if task.key not in writer.keys:
                    record = run(task)
                    writer.add(record)
                    yield index, record
        finally:
            writer.flush()


def report(records: Iterator[tuple[int, Record]], total: int, outcome: Callable[[Record], str]) -> int:
    """Print a line for each record while it is collected; returns the command's exit code."""
    try:
        for index, record in records:
            what = record["error"] or outcome(record)
            print(f"{index + 1}/{total} {record['key']}: {what}", file=sys.stderr)  # noqa: T201
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)  # noqa: T201
        return 130
    return 0
