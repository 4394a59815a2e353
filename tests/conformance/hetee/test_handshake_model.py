"""The model of the handshake is of this code, the handshake holds in it, and each seeded fault is found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sectum.hetee
from handshake_model import ALL, FAULTS, MODEL, NOTHING_HAPPENS, PROPERTIES, build, check, missing
from places import ROOT

CODE = Path(sectum.hetee.__file__).parent
QUOTED = re.compile(r"code: (.+?)(?: \*/)?$", re.MULTILINE)
needs_spin = pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())} to check models")


def test_the_model_quotes_the_code() -> None:
    """Each line of code that the model says it models is in the code, so that a change there is seen here."""
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for room in ("attest", "channel", "client", "verification")
        for path in (CODE / room).glob("*.py")
    )
    lines = {line.strip() for line in source.splitlines()}
    quoted = QUOTED.findall(MODEL.read_text(encoding="utf-8"))
    assert len(quoted) > 20
    assert [line for line in quoted if line not in lines] == []


def test_the_model_is_explained() -> None:
    """The page names each property and each fault."""
    page = (ROOT / "docs" / "spec" / "model.md").read_text(encoding="utf-8")
    assert [name for name in (*PROPERTIES, NOTHING_HAPPENS) if f"`{name}`" not in page] == []
    assert [about for about, _ in FAULTS.values() if about not in page] == []


@needs_spin
@pytest.mark.slow
def test_the_handshake_holds(tmp_path: Path) -> None:
    """In all runs of two clients and a controller with an intruder, keys stay secret and honest sides agree."""
    verifier = build(tmp_path)
    assert not check(verifier, ALL).violated
    assert check(verifier, NOTHING_HAPPENS).violated, "no honest session can be finished, so nothing was checked"


@needs_spin
@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(tmp_path: Path, fault: int) -> None:
    """Without any one of these checks the intruder wins, and the search finds how."""
    assert check(build(tmp_path, fault), FAULTS[fault][1]).violated
