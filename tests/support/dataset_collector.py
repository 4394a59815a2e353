"""Collects networks that nobody measures, fast: what the kills of `test_dataset_kills` happen to.

``python dataset_collector.py FOLDER NETWORKS`` says each key on a line when its record is safe.
"""

from __future__ import annotations

import hashlib
import itertools
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sectum.lab.dataset.campaign import collect
from sectum.lab.dataset.dataset import FORM, SAMPLE_COLUMNS
from sectum.lab.dataset.shards import ShardWriter
from sectum.lab.dataset.task import SAMPLE, Task

MACHINE = "here"
SHARD_NETWORKS = 5
"""Small shards, so that many kills meet the making of one."""


def tasks() -> Iterator[Task]:
    """Networks that are drawn quickly."""
    return (Task(SAMPLE, "nasbench201", seed, 1.0, 0, 1) for seed in itertools.count())


def record(key: str) -> dict[str, Any]:
    """Make the record of a key: everything in it follows from the key, so that damage shows."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    numbers = [int(digest[i : i + 4], 16) for i in range(0, 64, 4)]
    run = {
        "place": "native", "epc_bytes": None, "latency": float(numbers[0]), "uncertainty": None, "settled": True,
        **{f"sample_{name}": numbers * 20 for name in SAMPLE_COLUMNS},
    }  # fmt: skip
    return {
        "key": key, "family": "nasbench201", "source": SAMPLE, "seed": numbers[1], "batch": 1, "threads": 1,
        "structure": digest[:32],
        "graph": digest * 50, "runs": [run], "error": "", "machine": MACHINE, "date": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip


class Engine:
    """Gives a record for each task, at once."""

    def context(self) -> dict[str, Any]:
        """No machine."""
        return {}

    def measure(self, to_do: Iterable[Task]) -> Iterator[dict[str, Any]]:
        """Measure nothing."""
        return (record(task.key) for task in to_do)


def main(folder: str, networks: str) -> None:
    """Collect until there are so many."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as from a terminal, however the tests were started
    with ShardWriter(Path(folder), MACHINE, {}, replace(FORM, shard_rows=SHARD_NETWORKS)) as writer:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for made in collect(writer, tasks(), Engine(), int(networks)):
            sys.stdout.write(made["key"] + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
