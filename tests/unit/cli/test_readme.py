"""The README shows what the commands really print."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from places import ROOT
from sectum.cli.main import cli

README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^\$ (sectum .+)\n((?:.*\n)*?)```$", README, re.MULTILINE)
TYPED = [command for command, _ in SHOWN] + re.findall(r"`(sectum [^`]+)`", README)


def words_of(output: str) -> list[str]:
    """The words of an output, whatever their numbers are and wherever its lines end."""
    return re.sub(r"[\d.,]*\d", "#", output).split()


def test_prediction_in_the_readme_is_what_is_printed(run):
    """Who types the first command sees what the README shows, but for numbers of models that were trained anew."""
    command, output = SHOWN[0]
    result = run(*shlex.split(command)[1:])
    assert result.exit_code == 0, result.stderr
    assert words_of(result.stdout) == words_of(output)


@pytest.mark.parametrize("line", TYPED)
def test_command_in_the_readme_exists_with_its_options(line):
    """No command in the README is misspelt or of another version."""
    command: click.Command = cli
    for word in shlex.split(line.partition("&&")[0])[1:]:
        if isinstance(command, click.Group):
            command = command.commands[word]
        elif word.startswith("-"):
            assert word in {name for option in command.params for name in option.opts}
