"""A collector may be killed at any moment: every finished row is there, none twice, none damaged.

Eight kills; ``SECTUM_KILLS=50 pytest tests/e2e/test_dataset_kills.py`` for fifty.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from places import SUPPORT
from sectum.lab.dataset.dataset import read
from sectum.lab.dataset.journal import Journal

pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")
from dataset_collector import MACHINE, record

KILLS = int(os.environ.get("SECTUM_KILLS", "8"))
MOST_NETWORKS, LATEST_S = 12, 0.02
"""A kill comes after fewer networks than the first, and up to so many seconds later."""
COLLECTOR = SUPPORT / "dataset_collector.py"


def start(folder: Path, networks: int) -> subprocess.Popen[str]:
    """Start a collector and wait until it is about to measure."""
    command = [sys.executable, str(COLLECTOR), str(folder), str(networks)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def first(process: subprocess.Popen[str], count: int) -> list[str]:
    """The first keys that it calls safe."""
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(count)]


def finished(process: subprocess.Popen[str]) -> list[str]:
    """Wait for the end; the keys that it has called safe, the last line only if it is whole."""
    assert process.stdout is not None
    with process.stdout:
        told = process.stdout.read()
    process.wait()
    return told[: told.rfind("\n") + 1].split()


def rows(folder: Path) -> list[dict[str, Any]]:
    """All that a new collector would find: shards, each verified, and what the journal has beyond them."""
    found = list(read(folder)) if any(folder.glob("*.parquet")) else []
    with Journal(folder / f"{MACHINE}.journal") as journal:
        journal.drop({row["key"] for row in found})
        return found + journal.records


def check(folder: Path, safe: set[str]) -> None:
    """Hold the folder against what was called safe."""
    found = rows(folder)
    keys = [row["key"] for row in found]
    assert len(keys) == len(set(keys)), "a row is there twice"
    assert safe <= set(keys), "a finished row is lost"
    assert len(set(keys) - safe) <= 1, "more than the row in hand was never called safe"
    for row in found:
        assert {name: value for name, value in row.items() if value is not None} | {"runs": []} == {
            **record(row["key"]), "runs": [],
        }, "a row is damaged"  # fmt: skip
        (run,), (whole,) = row["runs"], record(row["key"])["runs"]
        assert {name: run[name] for name in whole} == whole, "a run is damaged"


def test_killed_at_random_moments_it_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    """A kill, wherever it strikes: in the journal, in a shard, between the two, or while reading them."""
    rng = random.Random()
    safe: set[str] = set()
    for _ in range(KILLS):
        process = start(tmp_path, 1_000_000)
        told = first(process, rng.randrange(MOST_NETWORKS))
        time.sleep(rng.uniform(0, LATEST_S))
        process.send_signal(signal.SIGKILL)
        told += finished(process)
        assert process.returncode == -signal.SIGKILL
        assert not safe & set(told), "a finished network was measured again"
        safe |= set(told)
        check(tmp_path, safe)
        safe = {row["key"] for row in rows(tmp_path)}
    process = start(tmp_path, len(safe) + 7)
    assert len(finished(process)) == 7
    assert process.returncode == 0
    assert len(list(read(tmp_path))) == len(safe) + 7, "in the end all are in shards"
    assert not list(tmp_path.glob(".*"))


def test_interrupted_it_puts_all_into_shards(tmp_path: Path) -> None:
    """Ctrl-C leaves shards only: a folder that can be handed on."""
    process = start(tmp_path, 1_000_000)
    told = first(process, 3)
    process.send_signal(signal.SIGINT)
    told += finished(process)
    assert set(told) <= {row["key"] for row in read(tmp_path)}
    assert (tmp_path / f"{MACHINE}.journal").stat().st_size == 0
