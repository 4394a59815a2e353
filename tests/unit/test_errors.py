"""The error trees, as drawn and as they are."""

from __future__ import annotations

import re

import pytest

from sectum import errors
from sectum.hetee import errors as service_errors


def drawn(docstring: str) -> set[tuple[str, str | None, str]]:
    """Name, exit code and parent of each class in a drawn tree."""
    found, parents = set(), [""]
    for line in docstring.partition("::\n")[2].splitlines():
        if "──" not in line:
            continue
        depth = (line.index("──") - 5) // 4 + 1
        name, code = re.match(r"(\w+) *(\d*)", line.partition("── ")[2]).groups()
        parents[depth:] = [name]
        found.add((name, code or None, parents[depth - 1] or "SectumError"))
    return found


def actual(module) -> set[tuple[str, str | None, str]]:
    """The same of the classes that a module defines."""
    return {
        (name, str(kind.exit_code) if "exit_code" in vars(kind) else None, kind.__base__.__name__)
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, errors.SectumError) and kind is not errors.SectumError
    }


@pytest.mark.parametrize("module", [errors, service_errors], ids=lambda module: module.__name__)
def test_the_drawn_tree_has_every_class_with_its_code_and_parent(module):
    """Who reads the drawing reads the truth."""
    assert drawn(module.__doc__) == actual(module)


def test_no_two_errors_share_an_exit_code():
    """An exit code tells which error it was."""
    codes = [code for module in (errors, service_errors) for _, code, _ in actual(module) if code]
    assert len(codes) == len(set(codes))
