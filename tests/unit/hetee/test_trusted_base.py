"""The trusted base is small, and what must not reach a key cannot."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import pytest

import sectum.hetee

PACKAGE = Path(sectum.hetee.__file__).parent
TRUSTED = ("attest", "channel", "confinement", "controller", "image", "wire", "errors.py", "role_log.py")

# Raising this needs a decision record in docs/adr.
LINES_AT_MOST = 3_760
FILE_AT_MOST = 300


def code_lines(path: Path) -> int:
    """Lines with code on them: no blank lines, comments or docstrings."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    statement_begins = True
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in skipped:
            statement_begins = statement_begins or token.type == tokenize.NEWLINE
            continue
        # A string that is a statement of its own is documentation.
        if not (token.type == tokenize.STRING and statement_begins):
            lines |= set(range(token.start[0], token.end[0] + 1))
        statement_begins = False
    return len(lines)


def files_of(room: str) -> set[Path]:
    """The files of a part of the trusted base."""
    path = PACKAGE / room
    return {path} if path.is_file() else set(path.rglob("*.py"))


def imported_by(path: Path) -> set[Path]:
    """The files of this package that a file imports, also within functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            names = [str(node.module), *(f"{node.module}.{name}" for name in names)]
        for name in names:
            place = PACKAGE.parent.parent.joinpath(*name.split("."))
            found |= {file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()}
    return {file for file in found if PACKAGE in file.parents}


def test_a_controller_runs_nothing_but_the_trusted_base() -> None:
    """What a controller imports, directly or not, is counted: no part of it is in a room that is left out."""
    waiting, loaded = [PACKAGE / "controller" / "__main__.py"], set[Path]()
    while waiting:
        path = waiting.pop()
        if path not in loaded:
            loaded.add(path)
            waiting += imported_by(path)
    assert len(loaded) > 40
    assert loaded - {PACKAGE / "__init__.py"} <= {file for room in TRUSTED for file in files_of(room)}


def test_the_trusted_base_stays_small() -> None:
    """All that a controller runs of this package has no more lines of code than was decided."""
    counts = {room: sum(map(code_lines, files_of(room))) for room in TRUSTED}
    assert all(counts.values())
    assert sum(counts.values()) <= LINES_AT_MOST, counts


@pytest.mark.parametrize(
    "path",
    sorted(path for room in TRUSTED for path in files_of(room)),
    ids=lambda path: path.relative_to(PACKAGE).as_posix(),
)
def test_no_file_is_long(path: Path) -> None:
    """Each file of the trusted base can be read in one sitting."""
    assert len(path.read_text().splitlines()) <= FILE_AT_MOST
