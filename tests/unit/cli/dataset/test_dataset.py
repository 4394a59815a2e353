"""What a dataset holds is told in figures whose meaning is fixed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from dataset_records import failed, record
from dataset_records import run as measured
from sectum.lab.dataset.dataset import DatasetWriter
from sectum.units import MIB, PAGE_BYTES

pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")

Run = Callable[..., Result]
Show = Callable[[Path], dict[str, Any]]
CONTEXT = {"cpu_model": "a processor", "kernel": "Linux 6.18", "versions": {"onnxruntime": "1.31.1"}}
WORKING_SET_PAGES = 4 * MIB // PAGE_BYTES


def fill(folder: Path, *records: dict[str, Any], machine: str = "here", context: dict[str, Any] = CONTEXT) -> Path:
    with DatasetWriter(folder, machine, context) as writer:
        for one in records:
            writer.add(one)
        writer.flush()
    return folder


def enclaves(*runs: tuple[int, float]) -> list[dict[str, Any]]:
    """A native run, and one for each EPC size with so many loads."""
    return [measured(), *(measured("softepc", epc_bytes, loads=loads) for epc_bytes, loads in runs)]


@pytest.fixture
def told(run: Run) -> Show:
    """Read the JSON of ``dataset show``."""

    def show(folder: Path) -> dict[str, Any]:
        result = run("dataset", "show", folder, "--json")
        assert result.exit_code == 0, result.stderr
        summary: dict[str, Any] = json.loads(result.stdout)
        return summary

    return show


def test_networks_rows_and_families_are_counted(tmp_path: Path, told: Show) -> None:
    """A network counts once, however often it was measured; a structure once for all batches; a row is one EPC."""
    fill(
        tmp_path,
        record(1),
        record(2, family="vgg"),
        record(3, structure=record(1)["structure"], batch=2, key="alexnet/1/b2"),
        record(4, structure=record(2)["structure"], key="alexnet/2/b1#1"),
        failed(5),
    )
    summary = told(tmp_path)
    assert (summary["networks"], summary["structures"], summary["repeats"]) == (3, 2, 1)
    assert (summary["rows"], summary["repeated_rows"]) == (8, 2)
    assert {family: of["networks"] for family, of in summary["by_family"].items()} == {"alexnet": 2, "vgg": 1}
    assert summary["failures"] == {"EnclaveDeadline: too long": 1}
    assert summary["spent_hours"] == pytest.approx(5 * 4.5 / 3600)
    assert (summary["first_date"], summary["shards"], summary["networks_in_journals"]) == (record(1)["date"], 1, 0)


@pytest.mark.parametrize(
    ("epc_bytes", "loads", "is_overcommitted", "is_boundary"),
    [
        (int(4 * MIB / 1.25) + 1, WORKING_SET_PAGES, True, True),
        (int(4 * MIB / 1.25), WORKING_SET_PAGES, True, False),
        (4 * MIB, 1, False, True),  # of 1024
        (4 * MIB, 2, True, True),
        (5 * MIB, 0, False, True),
        (5 * MIB + PAGE_BYTES, 0, False, False),
    ],
)
def test_over_commitment_and_boundary_have_one_meaning(
    tmp_path: Path,
    told: Show,
    epc_bytes: int,
    loads: float,
    is_overcommitted: bool,
    is_boundary: bool,
) -> None:
    """More than 0.1 % of the working set's pages loaded; a working set of 0.8 to 1.25 times the EPC."""
    fill(tmp_path, record(1, runs=enclaves((epc_bytes, loads))))
    summary = told(tmp_path)
    assert (summary["overcommitted_rows"], summary["boundary_rows"]) == (is_overcommitted, is_boundary)


def test_rows_to_be_doubted_are_counted(tmp_path: Path, told: Show) -> None:
    """Unsettled page counts, single samples and other outputs than natively do not hide in the numbers."""
    runs = [
        measured(),
        measured("softepc", MIB, settled=False),
        measured("softepc", 2 * MIB, uncertainty=None),
        measured("softepc", 3 * MIB, outputs_equal_native=False, settled=False),
    ]
    fill(tmp_path, record(1, runs=runs))
    summary = told(tmp_path)
    assert summary["unsettled_rows"] == 2
    assert summary["single_sample_rows"] == summary["rows_with_other_outputs"] == 1


def test_noise_is_what_a_second_measurement_differs_by(tmp_path: Path, told: Show) -> None:
    """Latencies are compared in the same place, at the same EPC size, on the same machine, and nowhere else."""

    def latencies(native: float, small: float, large: float, apart_bytes: int = 0) -> list[dict[str, Any]]:
        return [
            measured(latency=native),
            measured("softepc", 8 * MIB, latency=large),
            measured("softepc", MIB + apart_bytes, latency=small),
        ]

    one = {"key": "alexnet/1/b1#1", "structure": record(1)["structure"]}
    two = {"key": "alexnet/2/b1#1", "structure": record(2)["structure"], "machine": "there"}
    fill(
        tmp_path,
        record(1, runs=latencies(1.0, 10.0, 2.0)),
        record(2, runs=latencies(1.0, 10.0, 2.0)),
        record(3, **one | {"runs": latencies(1.04, 10.8, 1.7, 16 * PAGE_BYTES)}),
        record(4, **two | {"runs": latencies(9.0, 9.0, 9.0)}),
    )
    noise = told(tmp_path)["label_noise"]
    assert noise["native"] == {"within_5": 1.0, "within_10": 1.0, "n": 1}
    assert noise["softepc"] == {"within_5": 0.0, "within_10": 0.5, "n": 2}
    assert noise["n"] == 3
    assert (noise["within_5"], noise["within_10"]) == pytest.approx((1 / 3, 2 / 3))


def test_sizes_that_differ_are_not_compared(tmp_path: Path, told: Show) -> None:
    """A cliff lies between sizes that are nearly the same."""
    again = {"key": "alexnet/1/b1#1", "runs": enclaves((4 * MIB + 17 * PAGE_BYTES, 0))}
    fill(tmp_path, record(1, runs=enclaves((4 * MIB, 1024))), record(2, **again))
    assert set(told(tmp_path)["label_noise"]) == {"native", "within_5", "within_10", "n"}


def test_without_repeats_the_noise_is_not_known(tmp_path: Path, told: Show) -> None:
    """No number stands where none was measured."""
    fill(tmp_path, record(1))
    assert told(tmp_path)["label_noise"] is None


def test_machines_are_told_by_what_they_are(tmp_path: Path, told: Show) -> None:
    """Each machine's networks and processor; those of a cluster by their nodes, not by who collected."""
    fill(tmp_path, record(1))
    nodes = {"lab-north": {**CONTEXT, "cpu_model": "another processor"}}
    fill(tmp_path, record(2, machine="lab-north"), machine="lab", context={**CONTEXT, "nodes": nodes})
    machines = told(tmp_path)["machines"]
    assert {name: (what["networks"], what["cpu_model"]) for name, what in machines.items()} == {
        "here": (1, "a processor"), "lab-north": (1, "another processor"),
    }  # fmt: skip


def test_what_is_in_no_shard_yet_is_mentioned(tmp_path: Path, told: Show) -> None:
    """While a campaign runs, or after it was killed, its journal is not forgotten."""
    fill(tmp_path, record(1))
    with DatasetWriter(tmp_path, "here", CONTEXT) as writer:
        writer.add(record(2))
        summary = told(tmp_path)
    assert (summary["networks"], summary["networks_in_journals"]) == (1, 1)


def test_people_read_the_same_figures(tmp_path: Path, run: Run) -> None:
    """Without --json it says what counts as what, and lists families and failures."""
    fill(tmp_path, record(1), record(2, family="vgg"), failed(3))
    result = run("dataset", "show", tmp_path)
    assert result.exit_code == 0, result.stderr
    for words in ("networks", "0.1 % of its working set's pages", "0.8 to 1.25 times", "1 x EnclaveDeadline: too long"):
        assert words in result.stdout
    lines = result.stdout.splitlines()
    assert any(line.split()[:3] == ["alexnet", "1", "2"] for line in lines)
    assert any(line.startswith("here: 2 networks; a processor, Linux 6.18, ONNX Runtime 1.31.1") for line in lines)


def test_only_failures_can_be_shown(tmp_path: Path, run: Run) -> None:
    """A campaign in which nothing was measured says why."""
    fill(tmp_path, failed(1))
    result = run("dataset", "show", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert "1 x EnclaveDeadline" in result.stdout


def test_a_folder_without_a_dataset_is_told(tmp_path: Path, run: Run) -> None:
    """An empty or missing folder is an error with its own code."""
    for folder, said in ((tmp_path / "nowhere", "there is no folder"), (tmp_path, "holds no shards")):
        result = run("dataset", "show", folder)
        assert result.exit_code == 32
        assert said in result.stderr


def test_a_cpu_twice_is_refused(run: Run, tmp_path: Path) -> None:
    """Two networks on one CPU would take turns, and disturb each other."""
    result = run("dataset", "collect", "--folder", tmp_path, "--cpu", 1, "--cpu", 0, "--cpu", 1)
    assert result.exit_code == 2
    assert "--cpu 1 is given twice" in result.stderr


def test_ray_takes_no_cpu(run: Run, tmp_path: Path) -> None:
    """On a cluster each network has a node for itself."""
    result = run("dataset", "collect", "--folder", tmp_path, "--engine", "ray", "--cpu", 1)
    assert result.exit_code == 2
    assert "local engine" in result.stderr
