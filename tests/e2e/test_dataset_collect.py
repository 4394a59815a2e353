"""A small campaign with the real engine, as a user runs it: collect, be killed, go on, measure again, show."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.errors import EnclaveUnavailable
from sectum.lab.dataset.dataset import read
from sectum.lab.dataset.network import PROCESSES
from sectum.lab.dataset.shards import in_journals

pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")

COLLECT = ("dataset", "collect", "--machine", "here", "--networks", "2", "--seed", "29")
FIRST_NETWORK_S = 120.0

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module", autouse=True)
def enclave() -> None:
    try:
        SoftEpcRunner().check()
    except EnclaveUnavailable as error:
        pytest.skip(f"no software enclave here: {error}")


def sectum(*words: object) -> dict[str, Any]:
    """Run a command line as a process, and read its JSON."""
    command = [sys.executable, "-m", "sectum.cli", *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks, between which the collector was killed."""
    folder = tmp_path_factory.mktemp("networks")
    command = [sys.executable, "-m", "sectum.cli", *COLLECT, "--folder", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        end_s = time.monotonic() + FIRST_NETWORK_S
        while in_journals(folder) == 0:
            assert process.poll() is None
            assert time.monotonic() < end_s
            time.sleep(0.02)
        started = descendants(process.pid)
        process.send_signal(signal.SIGKILL)
    assert started, "the network is measured in processes of its own"
    end_s = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in started):
        assert time.monotonic() < end_s, "processes outlive the collector that nobody watches"
        time.sleep(0.1)
    assert sectum(*COLLECT, "--folder", folder) == {
        "folder": str(folder), "measured": 1, "failed": 0, "networks": 2,
    }  # fmt: skip
    return folder


def descendants(pid: int) -> list[int]:
    """Processes that this one has started, and that those have."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [inner for child in children for inner in descendants(child)]


def test_two_networks_are_measured_in_two_enclaves_each(folder: Path) -> None:
    """Rows are whole: each network natively, once or in several processes, and under two sizes of EPC."""
    rows = list(read(folder))
    assert len({row["key"] for row in rows}) == 2
    for row in rows:
        assert (row["error"], row["machine"]) == ("", "here")
        *natives, larger, smaller = row["runs"]
        assert len(natives) in (1, PROCESSES)
        assert {run["place"] for run in natives} == {"native"}
        assert (larger["place"], smaller["place"]) == ("softepc", "softepc")
        assert all(run["outputs_equal_native"] and run["latency"] > 0 for run in row["runs"])
        assert all(time > 0 for time in row["operator_times"])
        for run in (larger, smaller):
            assert run["resident_bytes"] <= run["epc_bytes"]
            assert (run["loads"] > 0) == (run["evictions"] > 0)


def test_nothing_is_left_to_do_when_the_same_command_is_given_again(folder: Path) -> None:
    """A campaign that is done stays as it is."""
    before = sorted(path.name for path in folder.iterdir())
    assert sectum(*COLLECT, "--folder", folder)["measured"] == 0
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_record_that_was_cut_off_is_mentioned(folder: Path) -> None:
    """Who starts a killed campaign again learns that a measurement was lost, and that it is made up for."""
    (folder / "here.journal").write_bytes(b"half a rec")
    command = [sys.executable, "-m", "sectum.cli", *COLLECT, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[0]) == (0, "0")
    assert "cut off" in done.stderr
    assert (folder / "here.journal").stat().st_size == 0


def test_networks_measured_again_tell_the_noise(folder: Path) -> None:
    """The second measurement is of the same network, at the same sizes of EPC, and is compared with the first."""
    told = sectum(*COLLECT, "--folder", folder, "--repeat", 1)
    assert (told["measured"], told["networks"]) == (1, 3)
    assert sectum(*COLLECT, "--folder", folder, "--repeat", 1)["measured"] == 0
    shown = sectum("dataset", "show", folder)
    assert (shown["networks"], shown["repeats"]) == (2, 1)
    assert shown["rows"] == 6
    assert 1 <= shown["label_noise"]["native"]["n"] <= shown["label_noise"]["n"] <= 3


def test_an_unknown_machine_has_nothing_to_measure_again(folder: Path) -> None:
    """Another machine's networks would differ by more than noise."""
    command = [sys.executable, "-m", "sectum.cli", "dataset", "collect", "--folder", str(folder), "--repeat", "1"]
    done = subprocess.run([*command, "--machine", "there"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--machine" in done.stderr


def test_a_folder_that_cannot_be_written_is_told_without_a_trace(tmp_path: Path) -> None:
    """The user learns what is wrong with the folder, and that nothing was lost."""
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "inside", "/proc/nowhere"):
        command = [sys.executable, "-m", "sectum.cli", *COLLECT, "--folder", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
        assert done.returncode == 2, done.stderr
        assert f"collecting into {folder} ended" in done.stderr
