"""Runs the notebooks of examples/, cell by cell, without Jupyter.

``python tools/notebooks.py`` writes into each notebook what its cells print, and the value or the picture of a cell's
last line, as Jupyter does. ``python tools/notebooks.py --print NOTEBOOK`` prints the cells' texts as JSON and writes
nothing; a test compares the words with those that are stored.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NOTEBOOKS = tuple(sorted((ROOT / "examples").glob("*.ipynb")))


def executed(notebook: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Run the code cells in order, in one namespace; the outputs of each, in the notebook's format.

    An exception of a cell ends the run.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    found = []
    for number, cell in enumerate(code_cells(notebook), 1):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            value = _run("".join(cell["source"]), names, number)
        outputs: list[dict[str, Any]] = []
        if printed.getvalue():
            outputs.append({"name": "stdout", "output_type": "stream", "text": _lines(printed.getvalue())})
        if value is not None:
            outputs.append(
                {"data": _shown(value), "execution_count": number, "metadata": {}, "output_type": "execute_result"}
            )
        found.append(outputs)
    return found


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells with code, in order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def texts(outputs: list[list[dict[str, Any]]]) -> list[str]:
    """What each cell prints, and the text of its last line's value."""
    return ["".join("".join(one.get("text") or one["data"]["text/plain"]) for one in cell) for cell in outputs]


def _run(source: str, names: dict[str, Any], number: int) -> Any:
    """Run a cell; the value of its last line, if that is an expression."""
    tree = ast.parse(source, f"cell {number}")
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, f"cell {number}", "exec"), names)
    return eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names) if last else None


def _shown(value: Any) -> dict[str, Any]:
    """A value as Jupyter shows it: a figure of matplotlib as a picture, anything else as text."""
    shown: dict[str, Any] = {"text/plain": _lines(repr(value))}
    if hasattr(value, "savefig"):
        content = io.BytesIO()
        value.savefig(content, format="png", dpi=90, metadata={"Software": None})
        shown = {"image/png": base64.b64encode(content.getvalue()).decode() + "\n", **shown}
    return shown


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main() -> None:
    """Run every notebook and store its outputs, or print those of one."""
    if sys.argv[1:2] == ["--print"]:
        print(json.dumps(texts(executed(json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))))))
        return
    for path in NOTEBOOKS:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for number, (cell, outputs) in enumerate(zip(code_cells(notebook), executed(notebook), strict=True), 1):
            cell |= {"outputs": outputs, "execution_count": number}
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
