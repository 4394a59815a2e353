"""README.md and the documentation pages show what the commands really print."""

from __future__ import annotations

import ast
import re
import shlex

import click
import pytest

from sectum.cli.main import cli
from shown_examples import PAGES, ROOT, SHOWN

TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
EXAMPLES = [(name, found[1], found[2]) for name, text in TEXTS.items() for found in SHOWN.finditer(text)]
TYPED = sorted(
    {
        (name, found[1])
        for name, text in TEXTS.items()
        for found in re.finditer(
            r"(?:^(?:\$ )?(?:\.venv/bin/)?|`(?:\$ )?)(sectum [a-z][^`\n]*)",
            text.replace("\\\n", " "),  # a command may go on in the next line
            re.MULTILINE,
        )
    }
)

PYTHON = [
    (name, found[1])
    for name, text in TEXTS.items()
    for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    if "import " in found[1]
]


PRINTED: dict[str, str] = {}
"""What commands have printed: several pages show the same one."""


def words_of(output: str) -> list[str]:
    """The words of an output, without numbers and line ends. The CPU decides which of similar layers are named."""
    return re.sub(r"[\d.,]*\d", "#", re.sub(r"_\d+\b", "", output)).split()


@pytest.mark.parametrize(("page", "command", "output"), EXAMPLES)
def test_output_on_a_page_is_what_is_printed(run, page, command, output):
    """Who types a command that a page shows sees the output that the page shows, numbers aside."""
    if command not in PRINTED:
        result = run(*shlex.split(command)[1:])
        assert result.exit_code == 0, result.stderr
        PRINTED[command] = result.stdout
    assert words_of(PRINTED[command]) == words_of(output), "run: python tools/shown_examples.py"


@pytest.mark.parametrize(("page", "line"), TYPED)
def test_command_on_a_page_exists_with_its_options(page, line):
    """No command on a page is misspelt or of another version."""
    command: click.Command = cli
    for word in shlex.split(re.split(r"\s(?:&&|[>|&])", line)[0], comments=True)[1:]:
        if isinstance(command, click.Group):
            command = command.commands[word]
        elif word.startswith("-"):
            assert word in {name for option in command.params for name in option.opts}


@pytest.mark.parametrize(("page", "source"), PYTHON)
def test_python_on_a_page_imports_what_exists(page, source):
    """No Python example on a page imports a name from Sectum that this version does not have."""
    imports = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom)]
    own = [node for node in imports if (node.module or "").partition(".")[0] == "sectum"]
    if any((node.module or "").startswith("sectum.hetee") for node in own):
        pytest.importorskip("msgspec", reason="msgspec, of the extra hetee, is not installed")
    exec(compile(ast.Module(own, type_ignores=[]), page, "exec"), {})
