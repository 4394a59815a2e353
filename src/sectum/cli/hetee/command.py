"""``sectum hetee``: the confidential accelerator service."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from sectum.cli.command_group import FullSentenceGroup
from sectum.cli.hetee.bench import bench
from sectum.cli.hetee.connect import connect
from sectum.cli.hetee.credentials import credentials
from sectum.cli.hetee.infer import infer
from sectum.cli.hetee.options import SOFTWARE, policy_for, state_option
from sectum.cli.hetee.resize import resize
from sectum.cli.hetee.run import run
from sectum.cli.hetee.sign import sign
from sectum.cli.hetee.top import top
from sectum.cli.hetee.train import train
from sectum.cli.hetee.up import up
from sectum.cli.hetee.verify import verify
from sectum.cli.options import examples, json_option


@click.group(
    cls=FullSentenceGroup,
    epilog=examples(
        "sectum hetee up                                   # in one terminal",
        "sectum hetee infer zoo:squeezenet1_1 cat.jpg      # in another",
    ),
)
def hetee() -> None:
    """Run models confidentially on the accelerators of an untrusted machine.

    Models and images are encrypted for a worker that has proved which software it runs. A machine without a hardware
    enclave has only SOFTWARE evidence, which does not protect against that machine's administrator.
    """


@hetee.command(
    epilog=examples("sectum hetee policy -o policy.json", "sectum hetee policy --root root.pub -o policy.json")
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="File to write.")
@click.option(
    "--root",
    "roots",
    multiple=True,
    metavar="HEX|FILE",
    help="Public key of a trusted manufacturer, or a file with it.  [default: this machine's]",
)
@state_option
@json_option
def policy(*, output: Path | None, roots: tuple[str, ...], state: Path | None, as_json: bool) -> None:
    """Write a policy that accepts exactly the software that is installed here.

    It accepts SOFTWARE evidence under the given roots, for the measurements of the controller and the worker that are
    installed here. Without --output it is printed.
    """
    from sectum.cli.render.output import print_json, write_file
    from sectum.cli.render.show import say

    made = policy_for(state, roots)
    from sectum.hetee.installed_policy import policy_file

    text = policy_file(made)
    if output is not None:
        write_file(output, text)
    if as_json:
        import msgspec

        print_json({"policy": msgspec.to_builtins(made), "path": str(output) if output else None})
    elif output is None:
        click.echo(text.decode(), nl=False)
    else:
        say(f"{output} accepts the software that is installed here. {SOFTWARE}")


_PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def _become(role: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by a role, so that nothing of the command line stays in its memory."""
    from sectum.hetee.launcher import role_command

    command = role_command(role)
    sys.stdout.flush()
    os.execv(command[0], [*command, *arguments])  # noqa: S606  # no shell, and a fixed program


@hetee.command(
    context_settings=_PASSED_ON,
    epilog=examples("sectum hetee host --controller run/controller.sock --listen 0.0.0.0:7625"),
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="...")
def host(*, arguments: tuple[str, ...]) -> None:
    """Run only the untrusted host; its own --help shows its options."""
    _become("host", arguments)


@hetee.command(
    context_settings=_PASSED_ON,
    epilog=examples(
        "sectum hetee controller --socket run/controller.sock --endorsement endorsement --reference reference"
    ),
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="...")
def controller(*, arguments: tuple[str, ...]) -> None:
    """Run only the security controller; its own --help shows its options."""
    _become("controller", arguments)


for _command in (up, infer, train, resize, run, verify, sign, top, connect, credentials, bench):
    hetee.add_command(_command)
