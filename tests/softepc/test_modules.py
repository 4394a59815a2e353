"""The modules of the pager depend on each other without a circle."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter

from places import ROOT

SOURCES = ROOT / "native" / "softepc" / "src"


def test_no_two_modules_of_the_pager_include_each_other() -> None:
    """A module includes only headers of modules that do not depend on it, and none depends on lifecycle.c."""
    included: dict[str, set[str]] = {}
    for path in SOURCES.glob("*.[ch]"):
        found = re.findall(r'^#include "(\w+)\.h"$', path.read_text(), re.MULTILINE)
        included.setdefault(path.stem, set()).update(set(found) - {path.stem})

    TopologicalSorter(included).prepare()  # raises CycleError
    assert [module for module, others in included.items() if "lifecycle" in others] == []
