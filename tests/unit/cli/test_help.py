"""Every command explains itself, and quickly."""

from __future__ import annotations

import re
import subprocess
import sys

import click
import pytest

from places import ROOT
from sectum.cli.exit_codes import exit_codes
from sectum.cli.main import cli
from sectum.cli.reference import reference

HEAVY = ("numpy", "onnx", "onnxruntime", "rich", "sectum.predict", "sectum.graph", "sectum.enclave", "sectum.zoo")


def lines(command: click.Command, path: tuple[str, ...] = (), *, groups: bool = True) -> list[tuple[str, ...]]:
    """The words that name each command, but for those that become another program, which has a help of its own."""
    found = [path] if groups or not isinstance(command, click.Group) else []
    for name, inner in getattr(command, "commands", {}).items():
        if inner.context_settings.get("help_option_names") != []:
            found += lines(inner, (*path, name), groups=groups)
    return found


@pytest.mark.parametrize("words", lines(cli), ids=" ".join)
def test_help_has_an_example_of_the_command_itself(run, words):
    """The help of every command has an example that starts with the command."""
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert " ".join(("sectum", *words)) in result.stdout.partition("Example")[2]


@pytest.mark.parametrize("words", lines(cli, groups=False), ids=" ".join)
def test_command_can_speak_json(run, words):
    """Every command has the option --json."""
    assert "--json" in run(*words, "--help").stdout


def test_help_lists_every_exit_code_of_the_error_tree(run):
    """`sectum --help` lists each exit code with its meaning."""
    text = run("--help").stdout
    for code, _, meaning in exit_codes():
        assert f"{code:>3}  {meaning}" in text


def test_without_words_it_shows_help(run):
    """`sectum` alone shows its help and ends with exit code 0."""
    result = run()
    assert result.exit_code == 0
    assert "Usage: sectum" in result.stdout


def test_version_is_told(run):
    """`sectum --version` prints the program's name and version."""
    assert run("--version").stdout.startswith("sectum ")


@pytest.mark.slow
def test_help_loads_nothing_heavy():
    """The help of a command loads no numerical library and no room that needs one."""
    program = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from sectum.cli.main import cli\n"
        "assert CliRunner().invoke(cli, ['predict', '--help']).exit_code == 0\n"
        "print(' '.join(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(ended.stdout.split())


def test_reference_in_docs_is_current():
    """docs/cli.md equals what is generated from the commands."""
    stored = ROOT / "docs" / "cli.md"
    assert stored.read_text(encoding="utf-8") == reference(), "run: python -m sectum.cli.reference docs/cli.md"


def test_commands_stand_in_the_group_that_they_are_for(run):
    """A user finds the commands for predicting apart from those for research and for the service."""
    sections = run("--help").stdout.partition("Options:")[2].partition("Example")[0]
    used, _, rest = sections.partition("Research:")
    research, _, service = rest.partition("Confidential inference service:")

    def names(text: str) -> list[str]:
        return [line.split()[0] for line in text.splitlines() if re.match(r"  \w", line)]

    expected = ["predict", "measure", "plan", "run", "advise", "search", "report", "calibrate", "profiles", "zoo"]
    assert names(used) == expected
    assert names(research) == ["dataset", "study", "evaluate"]
    assert names(service) == ["hetee"]
    assert set(cli.commands) == {*names(used), *names(research), *names(service)}
