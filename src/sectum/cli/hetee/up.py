"""``sectum hetee up``."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import click

from sectum.cli.hetee.options import (
    METRICS,
    SOFTWARE,
    URL,
    check_listenable,
    need_extra,
    need_pytorch,
    pool_options,
    state_option,
    training_option,
)
from sectum.cli.hetee.run_pool import run_pool
from sectum.cli.options import examples, json_option, positive, whole
from sectum.cli.render.output import print_line
from sectum.errors import UsageError


@click.command(
    epilog=examples(
        "sectum hetee up",
        "sectum hetee up --accelerators cpu=2,paced=4 --listen 0.0.0.0:7625",
        "sectum hetee up --pool ray --address 10.0.0.7:6379 --credentials /etc/sectum/ray",
    )
)
@pool_options
@click.option("--listen", default="127.0.0.1:7625", show_default=True, metavar="HOST:PORT", help="Address for clients.")
@click.option(
    "--metrics",
    default=METRICS,
    show_default=True,
    metavar="HOST:PORT",
    help="Address for operators: a page, /metrics, /health, /state.",
)
@click.option(
    "--accelerators",
    metavar="KIND=N,...",
    help="Number of accelerators of each kind: cpu, cuda, paced.  [default: cpu=CORES,paced=4]",
)
@click.option(
    "--threads",
    callback=whole(256),
    default="1",
    show_default=True,
    metavar="N",
    help="Threads of one cpu accelerator.",
)
@click.option(
    "--memory-mib",
    callback=whole(1 << 24),
    metavar="N",
    help="Limit on a worker's private memory: at least 128, with --training 320.  [default: half of the machine's; no "
    "limit with cuda]",
)
@click.option(
    "--workers-memory-mib",
    callback=whole(1 << 24),
    metavar="N",
    help="Memory that all workers together may hold.  [default: three quarters of the machine's]",
)
@click.option(
    "--spares", callback=whole(64), default="2", show_default=True, metavar="N", help="Spare workers to keep ready."
)
@click.option(
    "--admit",
    type=click.Path(dir_okay=False, exists=True),
    metavar="FILE",
    help="File with the public keys of the clients to serve, each as KEY or KEY:PRIORITY (0 to 7).  "
    "[default: serve all]",
)
@click.option(
    "--drain",
    "drain_s",
    callback=positive("seconds", 3600),
    default="30",
    show_default=True,
    metavar="S",
    help="Seconds that open sessions have to finish when the rack is stopped.",
)
@click.option(
    "--job-grace",
    "job_grace_s",
    callback=positive("seconds", 600),
    default="10",
    show_default=True,
    metavar="S",
    help="Seconds that a job of 'sectum hetee run' has to end when a session needs its accelerators.",
)
@click.option(
    "--allow-unconfined",
    is_flag=True,
    help="Serve although the kernel refuses a step of confinement. Evidence says so, and default policies refuse it.",
)
@click.option("--with-parent", type=int, hidden=True, help="Stop at once when this process, the parent, ends.")
@training_option
@state_option
@json_option
def up(
    *,
    listen: str,
    metrics: str,
    accelerators: str | None,
    drain_s: float,
    training: bool,
    state: Path | None,
    as_json: bool,
    pool: str,
    with_parent: int | None,
    **options: Any,
) -> None:
    """Run a whole rack on this machine: controller, host, and workers.

    A process that dies is restarted. Ctrl-C stops the rack and lets open sessions finish; a second Ctrl-C ends them.
    The rack writes policy.json to its folder; clients on other machines need it. With --json it prints one line of JSON
    for each event: 'provisioned' and 'signed' if the folder is new, 'ready' (with url, policy, evidence and
    accelerators), 'restarted', 'stopping', 'stopped'.

    With --pool ray it runs a rack on each node of a Ray cluster that has CPUs or GPUs, and tells clients their
    addresses at --metrics; 'sectum hetee infer --pool' asks there. More events are then 'joined', 'listening', 'lost'.
    """
    need_extra()
    if training:
        need_pytorch()
    tell = partial(_tell, as_json=as_json, out=sys.stdout)
    cluster = {name: options.pop(name) for name in ("address", "credentials", "unauthenticated")}
    if pool == "ray":
        from sectum.cli.hetee.up_ray import up_ray

        arguments = [*_rack("--job-grace", **options), *(["--training"] if training else [])]
        up_ray(listen, metrics, accelerators, arguments, drain_s, state, cluster, tell)
        return
    if given := [name for name, value in cluster.items() if value]:
        raise UsageError(f"--{given[0]} needs --pool ray")
    from sectum.hetee.confinement import kernel
    from sectum.hetee.launcher import RackPaths, state_directory
    from sectum.hetee.pool.local import LocalPool, RackOptions

    if with_parent is not None:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != with_parent:  # it ended before prctl
            return
    accelerators = accelerators or _default_accelerators()
    paths = RackPaths(state or state_directory())
    controller = ["--accelerators", accelerators, *_rack("--job-grace-s", **options)]
    rack = LocalPool(paths, RackOptions(listen, metrics, controller, training, drain_s), tell)
    try:
        _check_addresses(listen, metrics)
    except UsageError:
        rack.stop()
        raise
    if not as_json:
        click.echo(f"starting a rack with {accelerators}{'; PyTorch takes a while to load' if training else ''}")
    greet = partial(_greet, paths, listen, metrics, accelerators, as_json=as_json)
    run_pool(rack, greet, drain_s, tell)


def _tell(event: str, text: str, *, as_json: bool, out: TextIO, **facts: Any) -> None:
    if as_json:
        print_line({"event": event} | ({"text": text} if text and not facts else facts), out)
    elif text:
        click.echo(text, out)


def _check_addresses(listen: str, metrics: str) -> None:
    check_listenable("--listen", listen)
    check_listenable("--metrics", metrics)
    if listen == metrics:
        raise UsageError(f"--listen and --metrics are both {listen}: use different addresses")
    for option, address in (("--listen", listen), ("--metrics", metrics)):
        if int(address.rpartition(":")[2]) == 0:
            raise UsageError(f"{option}: port 0 means any free port: give a fixed one")


def _default_accelerators() -> str:
    return f"cpu={len(os.sched_getaffinity(0))},paced=4"


def _rack(
    grace: str,
    *,
    threads: int,
    memory_mib: int | None,
    workers_memory_mib: int | None,
    spares: int,
    job_grace_s: float,
    admit: str | None,
    allow_unconfined: bool,
) -> list[str]:
    """Arguments of the controller, which checks them; or of ``up``, which calls the one for ``grace`` differently."""
    arguments = ["--threads", str(threads), "--spares", str(spares), grace, f"{job_grace_s:g}"]
    arguments += ["--allow-unconfined"] if allow_unconfined else []
    arguments += [] if memory_mib is None else ["--memory-mib", str(memory_mib)]
    arguments += [] if workers_memory_mib is None else ["--workers-memory-mib", str(workers_memory_mib)]
    return arguments + (["--admit", admit] if admit else [])


def _unconfined(metrics: str) -> list[str]:
    """What the kernel of this machine refuses of the confinement of controller and workers."""
    from sectum.cli.hetee.top import ask

    return list(((ask(metrics) or {}).get("controller") or {}).get("unconfined", ()))


def _greet(paths: Any, listen: str, metrics: str, accelerators: str, *, as_json: bool) -> None:
    if as_json:
        counts = {kind: int(count) for kind, _, count in (word.partition("=") for word in accelerators.split(","))}
        ready = {"event": "ready", "address": listen, "url": f"hetee://{listen}"}
        trust = {"policy": str(paths.policy.absolute()), "evidence": "software", "hardware": False}
        rest = {"accelerators": counts, "metrics": f"http://{metrics}/metrics", "log": str(paths.log.absolute())}
        print_line(ready | trust | rest | {"unconfined": _unconfined(metrics)})
        return
    click.echo(f"ready at hetee://{listen} with {accelerators}")
    click.secho(SOFTWARE, bold=True)
    for refused in _unconfined(metrics):
        click.echo(f"not confined: {refused}")
    from sectum.hetee.launcher import state_directory

    where = "" if paths.directory == state_directory() else f" --state {paths.directory}"
    where += "" if f"hetee://{listen}" == URL else f" --url hetee://{listen}"
    operators = "" if metrics == METRICS else f" --metrics {metrics}"
    click.echo(f"try in another terminal:  sectum hetee infer zoo:squeezenet1_1 PICTURE.jpg{where}")
    click.echo(f"for clients on other machines: --policy {paths.policy}")
    click.echo(f"for operators: http://{metrics} (page, /metrics), sectum hetee top{operators}; log: {paths.log}")
