"""The lifecycle benchmark: what its command prints, with a measurement that is made up."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from sectum.cli.main import cli
from sectum.hetee.bench import lifecycle
from sectum.hetee.bench.inference import Progress
from sectum.hetee.bench.lifecycle import STEPS, LifecycleCell, LifecyclePlan


@pytest.fixture(autouse=True)
def plans(monkeypatch: pytest.MonkeyPatch) -> list[LifecyclePlan]:
    """What the command asks to be measured; each step takes 2 ms."""
    asked: list[LifecyclePlan] = []

    def run(plan: LifecyclePlan, told: Progress) -> list[LifecycleCell]:
        asked.append(plan)
        told("life 1", 0.5)
        return [LifecycleCell(step, [1.0, 2.0, 3.0]) for step in STEPS]

    monkeypatch.setattr(lifecycle, "run", run)
    return asked


def bench(*words: object) -> Result:
    """``sectum hetee bench lifecycle`` with these words."""
    return CliRunner().invoke(cli, ["hetee", "bench", "lifecycle", *map(str, words)])


def test_json_has_each_step_with_what_it_is(plans: list[LifecyclePlan]) -> None:
    """Each step has its median, its interval and its samples, and says that it was measured."""
    found = json.loads(bench("--json", "--network", "vgg16", "--count", "3").stdout)
    assert [cell["step"] for cell in found["cells"]] == list(STEPS)
    assert {cell["ms"] for cell in found["cells"]} == {2.0}
    paced = [cell["step"] for cell in found["cells"] if cell["kind"] == "measured, paced"]
    assert paced == ["growth in effect, paced"]
    assert [cell["hetee"] for cell in found["cells"] if cell["hetee"]] == ["tens of seconds"]
    assert plans == [LifecyclePlan("VGG16", 3)]


def test_the_table_says_what_each_step_is() -> None:
    """Each step is explained, and no hardware protects it."""
    done = bench()
    assert done.exit_code == 0, done.output
    assert all(f"{step}: " in done.output for step in STEPS)
    assert "no hardware protects this" in done.output


def test_one_life_is_too_few() -> None:
    """An interval needs more than one life, which is said before anything is started."""
    assert "--count 2" in bench("--count", "1").output
