"""A search may be killed at any moment: it goes on where it was, and no trial counts twice.

Two kills; ``SECTUM_KILLS=40 pytest tests/e2e/test_search_kills.py`` for forty.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from places import SUPPORT

pytest.importorskip("optuna", reason="searching needs Optuna: install sectum[search]")

KILLS = int(os.environ.get("SECTUM_KILLS", "2"))
TRIALS = 40
SPACE = """
name = "killed"
resolution = [32, 48, 64]
classes = 10
[[stage]]
block = "plain"
channels = [8, 16, 32, 64]
depth = [1, 2, 3]
kernel = [1, 3, 5]
stride = 2
"""


def start(folder: Path, *words: object, objective: str = "slow_parameters") -> subprocess.Popen[str]:
    """Start a search whose objective takes a moment."""
    (folder / "killed.toml").write_text(SPACE)
    command = [
        sys.executable, "-m", "sectum.cli", "search", "--latency", "50ms", "--space", "killed.toml", "--trials", TRIALS,
        "--objective", f"searching:{objective}", "--storage", "sqlite:///study.db", "--json", *words,
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        list(map(str, command)), cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def stored(folder: Path) -> list[tuple[int, str]]:
    """Number and state of every trial in the database; none while there are no tables."""
    with sqlite3.connect(folder / "study.db", timeout=60) as database:
        try:
            return database.execute("select number, state from trials order by trial_id").fetchall()
        except sqlite3.OperationalError:
            return []


def kill_after(process: subprocess.Popen[str], folder: Path, trials: int, later_s: float) -> None:
    """Kill a search with all its processes, a moment after it has stored so many trials."""
    deadline = time.monotonic() + 120
    while process.poll() is None and len(stored(folder)) < trials and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(later_s)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_random_moments_it_goes_on_and_no_trial_counts_twice(tmp_path: Path, workers: int) -> None:
    """After every kill the database holds whole trials, numbered without a gap; at the end as many as asked for."""
    rng = random.Random(workers)
    for number in range(KILLS):
        before = len(stored(tmp_path))
        aim = min(before + rng.randrange(1, 10), TRIALS - 1)
        kill_after(start(tmp_path, "--workers", workers, "--seed", number), tmp_path, aim, rng.uniform(0, 0.1))
        found = stored(tmp_path)
        assert [one for one, _ in found] == list(range(len(found)))
        assert {state for _, state in found} <= {"COMPLETE"}
        assert len(found) >= before
    last = start(tmp_path, "--workers", workers)
    output, _ = last.communicate(timeout=300)
    assert last.returncode == 0
    found = stored(tmp_path)
    assert [one for one, _ in found] == list(range(TRIALS))
    assert json.loads(output)["trials"] == TRIALS


def test_two_searches_share_one_study(tmp_path: Path) -> None:
    """Two programs at once fill one study; each ends with what both have found."""
    first = start(tmp_path, objective="slow_parameters_of_two")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("scoring-*")) and time.monotonic() < deadline:  # it has made the study
        time.sleep(0.01)
    second = start(tmp_path, "--seed", 1, objective="slow_parameters_of_two")
    outputs = [json.loads(process.communicate(timeout=300)[0]) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    found = stored(tmp_path)
    assert [one for one, _ in found] == list(range(len(found)))
    assert TRIALS <= len(found) <= TRIALS + 2
    assert max(one["trials"] for one in outputs) == len(found)
    with sqlite3.connect(tmp_path / "study.db") as database:
        writers = database.execute(
            "select count(distinct json_extract(value_json, '$.process')) from trial_user_attributes"
        ).fetchone()
    assert writers == (2,)
