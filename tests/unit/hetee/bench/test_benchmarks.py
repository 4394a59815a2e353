"""The benchmarks and long programs of the service, which no other test runs whole, still fit the code."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

from places import ROOT

PROGRAMS = sorted(path for folder in ("benchmarks", "tools") for path in (ROOT / folder).glob("*.py"))


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_what_a_program_imports_of_the_service_exists(path: Path) -> None:
    """Each name that a benchmark or tool imports from `sectum.hetee` is there."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sectum.hetee"):
            module = importlib.import_module(str(node.module))
            missing = [name.name for name in node.names if not hasattr(module, name.name)]
            assert all(importlib.util.find_spec(f"{node.module}.{name}") for name in missing), missing
