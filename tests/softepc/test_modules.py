"""The modules of the pager stand on one another, without a circle."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter

from places import ROOT

SOURCES = ROOT / "native" / "softepc" / "src"


def test_no_two_modules_of_the_pager_include_each_other() -> None:
    """A module's file and header include only headers of modules that do not need it themselves."""
    included: dict[str, set[str]] = {}
    for path in SOURCES.glob("*.[ch]"):
        found = re.findall(r'^#include "(\w+)\.h"$', path.read_text(), re.MULTILINE)
        included.setdefault(path.stem, set()).update(set(found) - {path.stem})

    TopologicalSorter(included).prepare()  # raises CycleError
    assert [module for module, others in included.items() if "lifecycle" in others] == []
