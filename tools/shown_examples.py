"""The commands that README.md and docs/ show, and what they print today.

``python tools/shown_examples.py`` runs them and writes their output into the pages. A test compares the words, but
not the numbers: those of models that were trained again may differ.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
GENERATED = {"accuracy.md", "cli.md", "sgx-profile.md", "study.md"}
PAGES = (
    ROOT / "README.md",
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if page.name not in GENERATED),
)

SHOWN = re.compile(r"^\$ (sectum (?:predict|plan|advise|profiles|zoo list)\b.*)\n((?:.*\n)*?)```$", re.MULTILINE)
"""Commands that print the same on every machine, with their output."""


def main() -> None:
    """Write the output of each command that a page shows into the page."""
    with tempfile.TemporaryDirectory() as home:
        for page in PAGES:
            before = page.read_text(encoding="utf-8")
            after = SHOWN.sub(lambda found: f"$ {found[1]}\n{_output(found[1], Path(home))}```", before)
            if after != before:
                page.write_text(after, encoding="utf-8")
                print(page.relative_to(ROOT))


def _output(command: str, home: Path) -> str:
    words = [sys.executable, "-m", "sectum.cli", *shlex.split(command)[1:]]
    return subprocess.run(
        words, env=os.environ | {"SECTUM_HOME": str(home)}, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


if __name__ == "__main__":
    main()
