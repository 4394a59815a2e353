"""Runs the code cells of a notebook in order, in one process, as Jupyter does; no Jupyter is needed.

python tests/support/notebooks.py FILE          runs it; what the cells print appears
python tests/support/notebooks.py FILE --store  and stores what each cell prints in the file
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def run(notebook: dict[str, Any]) -> list[str]:
    """Run the code cells; returns what each printed."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile("".join(cell["source"]), f"cell {number}", "exec"), namespace)
            printed.append(output.getvalue())
    return printed


def store(notebook: dict[str, Any], printed: list[str]) -> None:
    """Put what the cells printed into the notebook."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for count, (cell, text) in enumerate(zip(code, printed, strict=True), 1):
        cell["execution_count"] = count
        stream = {"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}
        cell["outputs"] = [stream] if text else []


def main() -> None:
    """Run a notebook, and store its outputs if asked."""
    path = Path(sys.argv[1])
    notebook = json.loads(path.read_text(encoding="utf-8"))
    printed = run(notebook)
    if "--store" in sys.argv[2:]:
        store(notebook, printed)
        path.write_text(json.dumps(notebook, indent=1) + "\n", encoding="utf-8")
    else:
        sys.stdout.write("".join(printed))


if __name__ == "__main__":
    main()
