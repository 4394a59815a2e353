"""``sectum hetee credentials``."""

from __future__ import annotations

from pathlib import Path

import click

from sectum.cli.hetee.options import need_extra
from sectum.cli.options import examples, json_option
from sectum.errors import UsageError


@click.command(epilog=examples("sectum hetee credentials cluster --node 10.0.0.7 --node 10.0.0.8"))
@click.argument("folder", type=click.Path(path_type=Path), metavar="FOLDER")
@click.option(
    "--node",
    "nodes",
    multiple=True,
    required=True,
    metavar="HOST",
    help="Name or IP address of a node, as the other nodes reach it; repeat it for each.",
)
@click.option(
    "--at",
    type=click.Path(path_type=Path),
    default="/etc/sectum/ray",
    show_default=True,
    metavar="FOLDER",
    help="Where a node's folder will lie on that node.",
)
@json_option
def credentials(*, folder: Path, nodes: tuple[str, ...], at: Path, as_json: bool) -> None:
    """Make a token and certificates for a Ray cluster, for 'sectum hetee up --pool ray'.

    FOLDER gets a folder for each node. Copy it to that node over a channel that you trust, and start Ray there with its
    variables: 'set -a; . /etc/sectum/ray/ray.env; ray start ...'. Who has such a folder can run programs on all nodes.
    The certificates last a year; the key that signed them is not kept.
    """
    need_extra()
    from sectum.cli.render.output import print_json
    from sectum.cli.render.show import say
    from sectum.hetee.pool.credentials import make_credentials

    if len(set(nodes)) != len(nodes):
        raise UsageError("a --node is given twice")
    if any("/" in node or not node.strip(".") for node in nodes):
        raise UsageError("a --node is a name or an IP address, such as 10.0.0.7")
    make_credentials(folder, nodes, at)
    made = {node: str(folder / node.replace(":", "-")) for node in nodes}
    if as_json:
        print_json({"folders": made, "at": str(at)})
        return
    for node, path in made.items():
        say(f"{node}: copy {path} to {at}, for the user who starts Ray there only")
    say(f"then, on each node: set -a; . {at}/ray.env; ray start ...")
