"""Scaling: what is divided by what, beside HETEE's table III, and what the command prints and draws."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sectum.cli.main import cli
from sectum.hetee.bench import scaling
from sectum.hetee.bench.inference import Progress
from sectum.hetee.bench.published import networks
from sectum.hetee.bench.scaling import BATCHES, ScalingCell, ScalingPlan, averages


def cell(network: str = "GoogLeNet", batch: int = 8, number: int = 4) -> ScalingCell:
    """A service that answers 19 batches a second with each accelerator, and a baseline that answers 20."""
    rates = [19.0 * number] * 3, [20.0 * number] * 3, [19.0] * 3, [20.0] * 3
    return ScalingCell(network, batch, number, *rates)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[ScalingPlan]:
    """What the command asks to be measured; it gets made-up cells."""
    asked: list[ScalingPlan] = []

    def run(plan: ScalingPlan, told: Progress) -> Iterator[ScalingCell]:
        asked.append(plan)
        told("a network", 0.5)
        for network in plan.networks:
            for batch in plan.batches:
                for number in plan.numbers:
                    yield cell(network, batch, number)

    monkeypatch.setattr(scaling, "run", run)
    return asked


def bench(*words: object) -> Result:
    """``sectum hetee bench scaling`` with these words."""
    return CliRunner().invoke(cli, ["hetee", "bench", "scaling", *map(str, words)])


def test_the_published_averages_are_those_of_the_paper() -> None:
    """From table III follow the averages that the paper states: 1.64 with two GPUs, 2.59 with four."""
    cells = [cell(network, batch, number) for network in networks() for batch in BATCHES for number in (2, 4)]
    found = {number: theirs for number, (_, _, theirs, _) in averages(cells).items()}
    assert found == pytest.approx({2: 1.64, 4: 2.59}, abs=0.05)


def test_speedup_is_over_one_accelerator_and_the_ratio_over_as_many() -> None:
    """Each number is divided by what its name says."""
    found = cell().json()
    assert (found["speedup"], found["vs_baseline"], found["baseline_speedup"]) == (4.0, 0.95, 4.0)
    assert found["hetee"] == {"speedup": 1.8395, "vs_baseline": 0.8466, "baseline_speedup": 1.76}
    assert (found["images_per_s"], found["baseline_images_per_s"]) == (608, 640)


def test_eight_accelerators_are_compared_with_nothing_published() -> None:
    """The paper has no cell with eight."""
    assert set(cell(number=8).published().values()) == {None}


def test_json_has_each_cell_once(plans: list[ScalingPlan]) -> None:
    """Without options all 60 cells are measured; with them those that were named."""
    found = json.loads(bench("--json").stdout)
    assert len(found["cells"]) == 60
    assert {(one["accelerators"], one["speedup"], one["vs_baseline"]) for one in found["cells"]} == {
        (number, float(number), 0.95) for number in (1, 2, 4, 8)
    }
    bench("--network", "vgg16", "--batch", "8", "--accelerators", "4", "--accelerators", "2", "--rounds", "3")
    assert plans[1] == ScalingPlan(("VGG16",), (8,), (2, 4), 3)


@pytest.mark.usefixtures("plans")
def test_it_says_what_is_paced_and_published(tmp_path: Path) -> None:
    """The table names its averages, what was not computed, and that no hardware protects it; the picture is a PNG."""
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra train, is not installed")
    done = bench("--batch", "8", "--picture", tmp_path / "scaling.png")
    assert done.exit_code == 0, done.output
    assert "average" in done.output
    assert "nothing was computed" in done.output
    assert "no hardware protects this" in done.output
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_one_round_is_too_few() -> None:
    """An interval needs more than one block, which is said before anything is started."""
    done = bench("--rounds", "1")
    assert done.exit_code == 2
    assert "--rounds 2" in done.output
