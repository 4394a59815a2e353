"""The lifecycle benchmark: what its command prints, with a measurement that is made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sectum.cli.main import cli
from sectum.hetee.bench import lifecycle
from sectum.hetee.bench.inference import Progress
from sectum.hetee.bench.lifecycle import STEPS, LifecycleCell, LifecyclePlan
from sectum.hetee.bench.world_switch import GRACE, TO_INSECURE, TO_SECURE


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


def test_the_worlds_are_switched_both_ways_without_the_grace() -> None:
    """The switch to the secure world, the grace time that its job used, and the switch back are steps of their own."""
    found = json.loads(bench("--json").stdout)["cells"]
    assert [cell["step"] for cell in found[-3:]] == [TO_SECURE, GRACE, TO_INSECURE]
    assert "without grace" in found[-3]["what"]
    assert "with the reset" in found[-1]["what"]


def test_the_picture_shows_each_step(tmp_path: Path) -> None:
    """``--picture`` writes a PNG, and says where."""
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra train, is not installed")
    picture = tmp_path / "life.png"
    assert f"drawn: {picture}" in bench("--picture", picture).output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_table_says_what_each_step_is() -> None:
    """Each step is explained, and no hardware protects it."""
    done = bench()
    assert done.exit_code == 0, done.output
    assert all(f"{step}: " in done.output for step in STEPS)
    assert "no hardware protects this" in done.output


def test_one_life_is_too_few() -> None:
    """An interval needs more than one life, which is said before anything is started."""
    assert "--count 2" in bench("--count", "1").output
