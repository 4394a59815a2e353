"""Tenants one after another on the same accelerators."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hetee_rack import may_look_into_processes
from hetee_tenants import ENDS, KINDS, Canary, Search, run

pytestmark = pytest.mark.skipif(
    not may_look_into_processes(), reason="looking into the memory of other processes needs root"
)


def test_nothing_of_a_tenant_is_left_for_the_next() -> None:
    """However tenants end, no process and no file of the service holds anything of those before."""
    found = run(tenants=2 * len(ENDS))
    assert found["wrong"] == []
    assert set(found["ends"]) == set(ENDS)
    assert set(found["accelerators"]) == {"cpu:0", "cpu:1"}


def search(canary: Canary, folder: Path, *pids: int) -> Search:
    """A search of these processes and this folder."""
    rack: Any = SimpleNamespace(pids=lambda: list(pids), paths=SimpleNamespace(directory=folder))
    return Search(rack, canary)


def test_what_is_left_in_a_process_would_be_found(tmp_path: Path) -> None:
    """A tenant's numbers are its own while it is served, and are reported when the next one is."""
    canary = Canary(int.from_bytes(os.urandom(6), "little"))
    numbers = canary.numbers(2, 1)
    searched = search(canary, tmp_path, os.getpid())
    assert searched.run(2, os.getpid()) == {KINDS[1]}
    assert searched.left == []
    assert searched.run(3, os.getpid()) == set()
    # More than once if NumPy's copies have not been written over yet.
    assert set(searched.left) == {f"input of tenant 2 in memory of process {os.getpid()}, when tenant 3 was served"}
    assert numbers.any()  # it was there until now


def test_what_is_left_in_a_file_would_be_found(tmp_path: Path) -> None:
    """One number of a tenant in a file is reported, wherever in the file it is."""
    canary = Canary(1)
    (tmp_path / "log").write_bytes(b"odd" + canary.numbers(2, 3).tobytes()[:8])
    searched = search(canary, tmp_path)
    searched.run(2, None)
    assert searched.left == ["model of tenant 2 in the file log"]
