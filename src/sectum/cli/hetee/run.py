"""``sectum hetee run``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from sectum.cli.hetee.options import need_extra, state_option
from sectum.cli.options import examples, json_option, whole
from sectum.cli.render.output import print_line
from sectum.errors import UsageError


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog=examples(
        "sectum hetee run --insecure python train.py --epochs 10",
        "sectum hetee run --insecure --accelerator cuda --count 2 --once ./simulate",
    ),
)
@click.option("--insecure", is_flag=True, help="Needed: nothing protects the job from this machine, or its data.")
@click.option(
    "--accelerator",
    type=click.Choice(["cpu", "cuda", "paced"]),
    default="cpu",
    show_default=True,
    help="Kind of accelerator.",
)
@click.option("--count", callback=whole(32), default="1", show_default=True, metavar="N", help="How many.")
@click.option(
    "--priority",
    type=click.IntRange(-1, 7),
    default=-1,
    show_default=True,
    metavar="N",
    help="-1 to 7. Sessions of higher priority preempt the job at once; all do so with -1.",
)
@click.option("--once", is_flag=True, help="When the job is preempted, end with exit code 53; do not start it again.")
@state_option
@json_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
def run(
    *,
    insecure: bool,
    accelerator: Any,
    count: int,
    priority: int,
    once: bool,
    state: Path | None,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Run an ordinary job on accelerators of this machine's rack that no session needs.

    Run it as the user who started the rack. The job finds the names of its accelerators in SECTUM_ACCELERATORS, such as
    cpu:0,cpu:1, and those of GPUs in CUDA_VISIBLE_DEVICES. When a session needs them, the job gets SIGTERM, and SIGKILL
    after the grace time of the rack; so does every process that it has started. It is started again when they are free.

    The exit code is that of the job; 128 and the number of a signal if that ended it; 46 if the rack refused the job or
    was lost; 53 if it was preempted with --once. With --json, standard output has one line of JSON for each event
    ('waiting', 'granted', 'started', 'preempted', 'returned', 'ended'), and the job's own goes to standard error.
    """
    need_extra()
    from sectum.hetee.jobs.runner import JobRunner
    from sectum.hetee.launcher import RackPaths, state_directory
    from sectum.hetee.wire.messages import Job

    if not insecure:
        raise UsageError("a job runs outside of any enclave, where nothing protects it: say so with --insecure")
    if shutil.which(command[0]) is None:
        raise UsageError(f"there is no program '{command[0]}'")

    def tell(event: str, text: str, **facts: Any) -> None:
        if as_json:
            print_line({"event": event} | facts)
        elif text:
            click.echo(f"sectum: the job {text}", err=True)

    wish = Job(accelerator=accelerator, count=count, priority=priority)
    runner = JobRunner(
        RackPaths(state or state_directory()).socket, wish, command, again=not once, tell=tell, output_to_error=as_json
    )
    code = runner.run()
    tell("ended", f"ended with exit code {code}", exit_code=code, preemptions=runner.preemptions)
    sys.exit(code)
