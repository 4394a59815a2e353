"""The trusted base is small, and what must not reach a key cannot."""

from __future__ import annotations

import io
import tokenize
from pathlib import Path

import pytest

import sectum.hetee

PACKAGE = Path(sectum.hetee.__file__).parent
TRUSTED = ("attest", "channel", "confinement", "controller", "image", "wire", "errors.py", "role_log.py")

# Verifiers of evidence: an import rule holds that no controller or worker imports them.
CLIENTS_ONLY = {PACKAGE / "attest" / name for name in ("quotes.py", "software.py")}

# Raising this needs a decision record in docs/adr.
LINES_AT_MOST = 4_100


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


def test_the_trusted_base_stays_small() -> None:
    """All that a controller runs of this package has no more lines of code than was decided."""
    counts = {}
    for room in TRUSTED:
        path = PACKAGE / room
        files = {path} if path.is_file() else set(path.rglob("*.py"))
        counts[room] = sum(map(code_lines, files - CLIENTS_ONLY))
    assert all(counts.values())
    assert sum(counts.values()) <= LINES_AT_MOST, counts


@pytest.mark.parametrize(
    "path",
    sorted(
        path
        for room in ("attest", "channel", "confinement", "image", "wire")
        for path in (PACKAGE / room).rglob("*.py")
    ),
    ids=lambda p: p.name,
)
def test_no_file_is_long(path: Path) -> None:
    """Each file can be read in one sitting; the schemas of all messages are one table."""
    assert len(path.read_text().splitlines()) <= (400 if path.name == "messages.py" else 300)
