"""``sectum hetee up --pool ray``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from sectum.cli.hetee.options import SOFTWARE, check_listenable
from sectum.cli.hetee.run_pool import run_pool
from sectum.errors import UsageError

_OPERATORS = 1000
"""Ports of racks for operators are higher than those for clients by this."""


def up_ray(
    listen: str,
    metrics: str,
    accelerators: str | None,
    arguments: Sequence[str],
    drain_s: float,
    state: Path | None,
    cluster: dict[str, Any],
    tell: Callable[..., None],
) -> None:
    """Run a rack on each node of a Ray cluster.

    Args:
        listen: address for clients; its port is the first that is tried on each node.
        metrics: address at which this process tells the racks.
        accelerators: of each node; None for what Ray says that it has.
        arguments: further arguments of ``sectum hetee up`` on each node.
        drain_s: time that open sessions have to finish.
        state: folder of the pool on each node, and here; None for the default.
        cluster: the options ``address``, ``credentials`` and ``unauthenticated``.
        tell: is told the events.

    Raises:
        UsageError: the cluster or an address cannot be used, or no rack can start.
    """
    from sectum.hetee.launcher import state_directory
    from sectum.hetee.pool.cluster import LOCAL, join
    from sectum.hetee.pool.node import NodeOptions
    from sectum.hetee.pool.ray_pool import RayPool
    from sectum.hetee.pool.server import PoolServer

    check_listenable("--metrics", metrics)
    port = listen.rpartition(":")[2]
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65_536 - 2 * _OPERATORS):
        raise UsageError(f"--listen: '{listen}' has no port for racks: write for example 0.0.0.0:7625")
    folder = (state or state_directory() / "pool").absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be used: {error.strerror}; name another with --state") from None
    own = str(folder) if state else ""
    options = NodeOptions(int(port), int(port) + _OPERATORS, drain_s, own, tuple(arguments))
    ray = join(
        cluster["address"] or LOCAL,
        cluster["credentials"],
        folder / "credentials",
        unauthenticated=cluster["unauthenticated"],
    )
    path = folder / "policy.json"
    pool = RayPool(ray, options, accelerators, path, tell)

    def greet() -> None:
        where = f" --state {folder}" if state else ""
        text = (
            f"racks are told at {metrics}; {SOFTWARE}\n"
            f"try in another terminal:  sectum hetee infer zoo:squeezenet1_1 PICTURE.jpg --pool {metrics}{where}\n"
            f"for clients on other machines: --policy {path}\n"
            f"for operators: sectum hetee top --metrics {metrics}"
        )
        tell("listening", text, address=metrics, policy=str(path), evidence="software", hardware=False)

    server = PoolServer(metrics, "ray", pool)
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):  # Ray prints pages of its own logs there
            run_pool(pool, greet, drain_s, tell)
    finally:
        server.close()
