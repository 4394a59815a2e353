"""The command of the bench: what it prints, draws and refuses, with a measurement that is made up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hetee_bench_cells import cell
from sectum.cli.main import cli
from sectum.hetee.bench import inference
from sectum.hetee.bench.cell import Cell


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[inference.BenchPlan]:
    """What the command asks to be measured; it gets made-up cells, and a Ctrl-C before the last."""
    asked: list[inference.BenchPlan] = []

    def run(plan: inference.BenchPlan, told: inference.Progress) -> Iterator[Cell]:
        asked.append(plan)
        for network in plan.networks:
            for batch in plan.batches:
                if (network, batch) == ("ResNet152", 64):
                    raise KeyboardInterrupt
                told(network, 0.5)
                yield cell(network, batch)

    monkeypatch.setattr(inference, "run", run)
    return asked


def bench(*words: object) -> Result:
    """``sectum hetee bench inference`` with these words."""
    return CliRunner().invoke(cli, ["hetee", "bench", "inference", *map(str, words)])


def test_all_cells_unless_some_are_chosen(plans: list[inference.BenchPlan]) -> None:
    """Without options it measures 25 cells in the equal-work mode; with them those that were named."""
    bench()
    bench("--network", "vgg16", "--batch", "8", "--batch", "4", "--batches", "5", "--real-decode")
    everything, some = plans
    assert (len(everything.networks), everything.batches, everything.count) == (5, (4, 8, 16, 32, 64), 24)
    assert (everything.mode.preprocess, everything.mode.compute) == ("paced", "paced")
    assert (some.networks, some.batches, some.count) == (("VGG16",), (4, 8), 5)
    assert (some.mode.preprocess, some.mode.compute) == ("real", "paced")


def test_real_compute_runs_on_a_real_accelerator(plans: list[inference.BenchPlan]) -> None:
    """With --real-compute nothing is paced, and the accelerator computes."""
    bench("--real-compute", "--accelerator", "cpu", "--network", "VGG16")
    assert (plans[0].mode.preprocess, plans[0].mode.compute, plans[0].mode.kind) == ("real", "real", "cpu")


@pytest.mark.usefixtures("plans")
def test_json_is_for_programs() -> None:
    """One object with the cells, and what they were measured on."""
    shown: dict[str, Any] = json.loads(bench("--json", "--network", "GoogLeNet").stdout)
    assert [found["batch"] for found in shown["cells"]] == [4, 8, 16, 32, 64]
    assert shown["interrupted"] is False
    assert {"machine", "cores", "versions", "mode", "paced_by", "batches", "evidence"} <= set(shown["context"])


@pytest.mark.usefixtures("plans")
def test_a_table_says_what_is_paced() -> None:
    """The table shows our numbers beside HETEE's, and says that nothing was computed."""
    text = bench("--network", "GoogLeNet", "--batch", "64").stdout
    row = next(line for line in text.splitlines() if line.startswith("GoogLeNet"))
    assert "25.00 ±0.00  129.03" in row
    assert row.endswith("paced       paced")
    assert "no hardware protects this" in text


@pytest.mark.usefixtures("plans")
def test_an_interrupted_run_shows_what_it_has() -> None:
    """Ctrl-C ends it with 130, after all cells that are measured."""
    ended = bench("--network", "ResNet152", "--json")
    shown = json.loads(ended.stdout)
    assert ended.exit_code == 130
    assert (shown["interrupted"], len(shown["cells"])) == (True, 4)


@pytest.mark.slow
@pytest.mark.usefixtures("plans")
def test_a_picture_is_drawn(tmp_path: Path) -> None:
    """A PNG is written, also of a run that was interrupted."""
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
    picture = tmp_path / "figures.png"
    bench("--picture", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--batches", 3), "too few for a median"),
        (("--accelerator", "cpu"), "--real-compute"),
        (("--picture", "nowhere/figures.png"), "no folder"),
    ],
)
def test_what_makes_no_sense_is_refused(plans: list[inference.BenchPlan], words: tuple[object, ...], why: str) -> None:
    """Wrong options are refused before anything is measured."""
    ended = bench(*words)
    assert ended.exit_code == 2
    assert why in ended.stderr
    assert not plans
