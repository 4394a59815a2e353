"""``sectum hetee resize``."""

from __future__ import annotations

import click

from sectum.cli.hetee.options import need_extra, wait_option
from sectum.cli.hetee.resizable import MOST_ACCELERATORS, ask, sessions
from sectum.cli.options import examples, json_option, whole
from sectum.errors import UsageError


@click.command(epilog=examples("sectum hetee resize 4", "sectum hetee resize 1 --process 4711 --json"))
@click.argument("count", callback=whole(MOST_ACCELERATORS), metavar="N")
@click.option(
    "--process",
    callback=whole(2**31),
    metavar="PID",
    help="Process of the session.  [default: the only one that runs]",
)
@wait_option("more accelerators")
@json_option
def resize(*, count: int, process: int | None, wait_s: float, as_json: bool) -> None:
    """Give a session that runs N accelerators.

    The session is one of yours on this machine: 'sectum hetee infer', 'train' or 'connect' in another terminal. It
    goes on meanwhile. Only the process that has its keys can ask for this, so this command asks that process. An
    enclave with GPUs cannot be resized.
    """
    from sectum.cli.render.output import print_json
    from sectum.cli.render.show import say

    need_extra()
    running = sessions()
    listed = ", ".join(f"{pid} ({command})" for pid, command in running.items())
    if not running:
        raise UsageError("no session of yours runs here: start 'sectum hetee infer', 'train' or 'connect' first")
    if process is None and len(running) > 1:
        raise UsageError(f"several sessions run: choose one with --process, of {listed}")
    pid = next(iter(running)) if process is None else process
    if pid not in running:
        raise UsageError(f"process {pid} has no session: choose one of {listed}")
    names = ask(pid, running[pid], count, wait_s)
    if as_json:
        print_json({"process": pid, "command": running[pid], "accelerators": names})
    elif len(names) < count:
        say(f"process {pid} is to have {count}, and has {len(names)} while others have their turn")
    else:
        say(f"process {pid} has {', '.join(names)}")
