"""``sectum hetee up``."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path
from typing import Any

import click

from sectum.cli.hetee.options import (
    METRICS,
    SOFTWARE,
    URL,
    check_listenable,
    need_extra,
    policy_file,
    policy_for,
    state_option,
)
from sectum.cli.options import examples, json_option, positive, whole
from sectum.cli.render.output import print_line, write_file
from sectum.errors import UsageError


@click.command(epilog=examples("sectum hetee up", "sectum hetee up --accelerators cpu=2,paced=4 --listen 0.0.0.0:7625"))
@click.option("--listen", default="127.0.0.1:7625", show_default=True, metavar="HOST:PORT", help="For clients.")
@click.option(
    "--metrics",
    default=METRICS,
    show_default=True,
    metavar="HOST:PORT",
    help="For operators: /metrics, /health, /state.",
)
@click.option(
    "--accelerators",
    metavar="KIND=N,...",
    help="Kinds cpu, cuda, paced, and how many of each.  [default: cpu=CORES,paced=4]",
)
@click.option("--threads", callback=whole(256), default="1", show_default=True, metavar="N", help="For one cpu.")
@click.option(
    "--memory-mib",
    callback=whole(1 << 24),
    metavar="N",
    help="Memory that a worker may have.  [default: half of the machine's; with cuda any]",
)
@click.option("--spares", callback=whole(64), default="2", show_default=True, metavar="N", help="Clean workers kept.")
@click.option(
    "--admit",
    type=click.Path(dir_okay=False, exists=True),
    metavar="FILE",
    help="Public keys of the clients that are served.  [default: all]",
)
@click.option(
    "--drain",
    "drain_s",
    callback=positive("seconds", 3600),
    default="30",
    show_default=True,
    metavar="S",
    help="How long sessions may finish when it is stopped.",
)
@state_option
@json_option
def up(
    *,
    listen: str,
    metrics: str,
    accelerators: str | None,
    drain_s: float,
    state: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Run a whole rack on this machine: controller, host, and the workers that they need.

    What dies is started again. Ctrl-C stops it: sessions may finish; a second Ctrl-C ends them. What clients
    elsewhere need in order to trust it is written to policy.json in its folder. With --json a line of JSON is
    printed for each event: 'provisioned' where the folder is new, 'ready' (with url, policy, evidence and
    accelerators), 'restarted', 'stopping', 'stopped'.
    """
    need_extra()
    tell = partial(_tell, as_json=as_json)
    from sectum.hetee.launcher import Launcher, Places, provision, state_directory

    accelerators = accelerators or _default_accelerators()
    places = Places(state or state_directory())
    fresh = not places.endorsement.exists()
    provision(places)
    if fresh:
        text = f"made an endorsement for this machine, in software: {places.endorsement}"
        tell("provisioned", text, endorsement=str(places.endorsement))
    stops: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stops.append(1))
    launcher = Launcher(
        places,
        listen=listen,
        metrics=metrics,
        controller=_controller(accelerators, **options),
        drain_s=drain_s,
        tell=lambda text: tell("restarted", text),
    )
    try:
        _check_addresses(listen, metrics)
        write_file(places.policy, policy_file(policy_for(places.directory)))
        launcher.start(lambda: _ready(metrics), stopped=lambda: bool(stops))
        if not stops:
            _greet(places, listen, metrics, accelerators, as_json=as_json)
        launcher.run(lambda: bool(stops))
        tell("stopping", f"stopping; sessions have {drain_s:g} s to finish", drain_s=drain_s)
        signal.signal(signal.SIGINT, lambda *_: launcher.hurry())
    finally:
        launcher.stop()
    tell("stopped", "")


def _tell(event: str, text: str, *, as_json: bool, **facts: Any) -> None:
    if as_json:
        print_line({"event": event} | ({"text": text} if text and not facts else facts))
    elif text:
        click.echo(text)


def _check_addresses(listen: str, metrics: str) -> None:
    check_listenable("--listen", listen)
    check_listenable("--metrics", metrics)
    if listen == metrics:
        raise UsageError(f"--listen and --metrics are both {listen}: name another for one of them")
    for option, address in (("--listen", listen), ("--metrics", metrics)):
        if int(address.rpartition(":")[2]) == 0:
            raise UsageError(f"{option}: port 0 is any port, and nobody would know which: name one")


def _default_accelerators() -> str:
    import os

    return f"cpu={len(os.sched_getaffinity(0))},paced=4"


def _controller(
    accelerators: str, *, threads: int, memory_mib: int | None, spares: int, admit: str | None
) -> list[str]:
    """The arguments of the controller; it checks them itself."""
    arguments = ["--accelerators", accelerators, "--threads", str(threads), "--spares", str(spares)]
    arguments += [] if memory_mib is None else ["--memory-mib", str(memory_mib)]
    return arguments + (["--admit", admit] if admit else [])


def _ready(metrics: str) -> bool:
    """Whether host and controller answer and a clean worker waits."""
    from sectum.cli.hetee.top import ask

    state = ask(metrics)
    workers = (state or {}).get("controller") or {}
    return any(worker["state"] == "spare" for worker in workers.get("workers", ()))


def _greet(places: Any, listen: str, metrics: str, accelerators: str, *, as_json: bool) -> None:
    if as_json:
        counts = {kind: int(count) for kind, _, count in (word.partition("=") for word in accelerators.split(","))}
        ready = {"event": "ready", "address": listen, "url": f"hetee://{listen}"}
        trust = {"policy": str(places.policy.absolute()), "evidence": "software", "hardware": False}
        rest = {"accelerators": counts, "metrics": f"http://{metrics}/metrics", "log": str(places.log.absolute())}
        print_line(ready | trust | rest)
        return
    click.echo(f"ready at hetee://{listen} with {accelerators}")
    click.secho(SOFTWARE, bold=True)
    from sectum.hetee.launcher import state_directory

    where = "" if places.directory == state_directory() else f" --state {places.directory}"
    where += "" if f"hetee://{listen}" == URL else f" --url hetee://{listen}"
    operators = "" if metrics == METRICS else f" --metrics {metrics}"
    click.echo(f"try in another terminal:  sectum hetee infer zoo:squeezenet1_1 PICTURE.jpg{where}")
    click.echo(f"for clients elsewhere: their --policy is {places.policy}")
    click.echo(f"for operators: http://{metrics}/metrics, sectum hetee top{operators}; log: {places.log}")
