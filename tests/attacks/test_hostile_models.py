"""An untrusted model file ends in a graph or in one clear error, within bounds on time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from hostile_models import MAKERS, Case
from places import SUPPORT

CHILD = SUPPORT / "hostile_child.py"
PEAK_RSS_MIB = 900


def verdicts(cases: list[Case]) -> Iterator[tuple[Case, dict[str, object]]]:
    """Run the cases in a child process, and in a new one after each death."""
    left = list(cases)
    while left:
        lines = [json.dumps({**asdict(case), "path": str(case.path), "codes": []}) for case in left]
        child = subprocess.run(
            [sys.executable, str(CHILD)], input="\n".join(lines), capture_output=True, text=True, timeout=300
        )
        answers = [json.loads(line) for line in child.stdout.splitlines()]
        yield from zip(left, answers, strict=False)
        left = left[len(answers) :]
        if left:
            yield left[0], {"outcome": "died", "exit_code": child.returncode, "message": child.stderr[-500:]}
            left = left[1:]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Case]]:
    """The hostile files of each kind."""
    return {kind: list(maker(tmp_path_factory.mktemp(kind))) for kind, maker in MAKERS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_hostile_files_end_in_a_graph_or_a_clear_error(kind: str, hostile: dict[str, list[Case]]) -> None:
    """No hostile file makes the reader die, hang, grow or let another exception escape."""
    wrong = []
    for case, verdict in verdicts(hostile[kind]):
        good = verdict["exit_code"] in case.codes and int(str(verdict.get("peak_rss_mib", 0))) < PEAK_RSS_MIB
        if not good or (verdict["exit_code"] and len(str(verdict["message"])) < 20):
            wrong.append(f"{case.name}: {verdict}, allowed {sorted(case.codes)}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_there_are_enough_hostile_files(hostile: dict[str, list[Case]]) -> None:
    """The collection does not shrink unnoticed."""
    assert sum(map(len, hostile.values())) >= 200
