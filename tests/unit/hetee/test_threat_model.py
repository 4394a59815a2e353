"""The threat model names a test for each rule and each attack, and these tests exist."""

from __future__ import annotations

import ast
import functools
import re

import pytest

from places import ROOT

TESTS = ROOT / "tests"
DOCUMENT = TESTS.parent / "docs" / "spec" / "threat-model.md"
# HETEE's rules, and what the service has to withstand.
RULES = [f"R{number}" for number in range(1, 10)]
ATTACKS = (
    *("replayed", "reordered", "truncated", "spliced", "bit-flipped", "stale", "foreign", "wrongly measured", "debug"),
    *("worker of another tenant", "host that reads", "host that drops", "host that delays", "host that duplicates"),
    *("opens a socket or a file", "residue", "host's memory, logs, files or traffic"),
)
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def rows(heading: str) -> dict[str, str]:
    """The table under a heading: its first column, and all that follows it."""
    section = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {heading}")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ", 1) for line in section.splitlines() if line.startswith("| ")]
    return dict(lines[2:])


@functools.cache
def names(file: str) -> set[str]:
    """The tests that a file has: functions, classes, and what is named as a test."""
    path = TESTS / file
    if not path.is_file():
        return set()
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in found if name.startswith(("test_", "Test"))}


def test_every_rule_has_an_invariant_and_an_attack() -> None:
    """R1 to R9 are each stated as an invariant with an attack, and each has tests, with real processes among them."""
    assert list(rows("Rules of isolation, as invariants")) == RULES
    tests = rows("Where each attack is")
    for rule in RULES:
        files = [file for file, _ in NAMED.findall(tests[rule])]
        assert any(file.startswith("attacks/") for file in files), rule


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_has_a_test(attack: str) -> None:
    """What a hostile host, worker or tenant may try is each a line of the table that names tests."""
    (found,) = [tests for what, tests in rows("Where each attack is").items() if attack in what]
    assert NAMED.findall(found)


def test_the_table_names_tests_that_exist() -> None:
    """Each test named in the table is in the file that it is said to be in."""
    named = NAMED.findall(DOCUMENT.read_text(encoding="utf-8"))
    assert len(named) > 50
    assert [f"{file}::{name}" for file, name in named if name not in names(file)] == []


def test_every_attack_with_a_whole_service_is_in_the_table() -> None:
    """No test of a hostile host, worker or tenant is left out of the table, but those about the tests themselves."""
    named = {name for _, name in NAMED.findall(DOCUMENT.read_text(encoding="utf-8"))}
    files = ("attacks/hetee/test_host.py", "attacks/hetee/test_isolation.py")
    missing = {name for file in files for name in names(file)} - named
    assert missing <= {
        "test_an_honest_host_changes_nothing",
        "test_an_error_that_ends_no_connection_explains_no_end",
        "test_what_is_vouched_for_is_confined",
    }
