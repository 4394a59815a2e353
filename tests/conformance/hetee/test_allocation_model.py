"""The model of leases is of this code, the rules hold in it, and each seeded fault is found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sectum.hetee
from allocation_model import (
    BOUNDS,
    FAULTS,
    LIVENESS,
    LIVENESS_BOUNDS,
    MODEL,
    NOTHING_HAPPENS,
    SAFE,
    SAFETY,
    build,
    check,
    missing,
    searches,
)
from places import ROOT

CODE = Path(sectum.hetee.__file__).parent
QUOTED = re.compile(r"code: (.+?)(?: \*/)?(?: \\)?$", re.MULTILINE)
needs_spin = pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())} to check models")


def test_the_model_quotes_the_code() -> None:
    """Each line of code that the model says it models is in the code, so that a change there is seen here."""
    lines = {line.strip() for path in (CODE / "controller").glob("*.py") for line in path.read_text().splitlines()}
    quoted = QUOTED.findall(MODEL.read_text(encoding="utf-8"))
    assert len(quoted) > 15
    assert [line for line in quoted if line not in lines] == []


def test_the_model_is_explained() -> None:
    """The page names each property, each fault and the bounds of the search."""
    page = (ROOT / "docs" / "spec" / "allocation.md").read_text(encoding="utf-8")
    assert [name for name in (*SAFETY, *LIVENESS, *NOTHING_HAPPENS) if f"`{name}`" not in page] == []
    assert [about for about, _ in FAULTS.values() if about not in page] == []
    for bounds in (BOUNDS, LIVENESS_BOUNDS):
        assert f"{bounds.accelerators} accelerators and {bounds.crashes} crash" in page


@needs_spin
@pytest.mark.slow
def test_the_rules_hold(tmp_path: Path) -> None:
    """In all runs within the bounds, whatever workers, clients and hosts do, no rule of isolation is broken."""
    verifier = build(tmp_path, BOUNDS)
    assert not check(verifier, SAFE).violated
    for name in NOTHING_HAPPENS:
        assert check(verifier, name).violated, f"{name} holds, so nothing was checked"


@needs_spin
@pytest.mark.slow
def test_who_waits_is_served(tmp_path: Path) -> None:
    """In all fair runs within the bounds, a session that asks is served and a batch is answered, or its end is told."""
    verifier = build(tmp_path, LIVENESS_BOUNDS, liveness=True)
    for name in LIVENESS:
        assert not check(verifier, name, liveness=True).violated


@needs_spin
@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(tmp_path: Path, fault: int) -> None:
    """Without any one of these steps a rule is broken, and the search finds how."""
    ((name, liveness),) = searches(fault)
    verifier = build(tmp_path, LIVENESS_BOUNDS if liveness else BOUNDS, fault=fault, liveness=liveness)
    assert check(verifier, name, liveness=liveness).violated
