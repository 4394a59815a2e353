"""``python -m sectum.hetee.host`` runs the host alone, as ``sectum hetee host`` does."""

from __future__ import annotations

import argparse
import os
import resource
import socket
import sys
from pathlib import Path

from sectum.hetee.confinement import users
from sectum.hetee.confinement.confine import ConfinementReport
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.host.confine import confine_host
from sectum.hetee.host.metrics import MetricsServer
from sectum.hetee.host.page import read_page
from sectum.hetee.host.scheduling import request_short_time_slices
from sectum.hetee.host.service import HostService, log, stop_on_signals


def _address(text: str) -> tuple[str, int]:
    name, found, port = text.rpartition(":")
    if not found or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is not an address: write for example 127.0.0.1:7625")
    return name.strip("[]") or "127.0.0.1", int(port)


def parser() -> argparse.ArgumentParser:
    """The parser of the host's arguments."""
    read = argparse.ArgumentParser("sectum hetee host", description="The untrusted host of one machine.")
    read.add_argument("--controller", type=Path, required=True, help="Unix socket of the controller")
    read.add_argument("--listen", type=_address, default=("127.0.0.1", 7625), help="address for clients")
    read.add_argument(
        "--metrics",
        type=_address,
        default=("127.0.0.1", 7626),
        help="address for operators: a page, /metrics, /health and /state",
    )
    read.add_argument("--connections", type=int, default=320, help="largest number of client connections at a time")
    read.add_argument("--with-parent", type=int, metavar="PID", help="stop when this process, the parent, ends")
    return read


_FILES, _FILES_OF_ONE = 160, 12  # descriptors of the host itself and its operators, and of one connection


def _connections(wanted: int, files: int) -> int:
    """How many connections the limit on descriptors allows."""
    return max(1, min(wanted, (files - _FILES) // _FILES_OF_ONE))


def _listen(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return socket.create_server(address, family=family, backlog=128)


def _confine(arguments: argparse.Namespace) -> tuple[Path, ConfinementReport]:
    """Give up everything but sockets; returns a path of the controller's socket that works afterwards."""
    user = users.host_user(users.first_user(arguments.controller.parent)) if os.geteuid() == 0 else 0
    arguments.controller.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Through this descriptor the host reaches the folder of the socket, and none above it.
    folder = os.open(arguments.controller.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    report = ConfinementReport()
    confine_host(report, user=user, with_parent=arguments.with_parent is not None)
    if arguments.with_parent not in (None, os.getppid()):  # the parent ended meanwhile
        sys.exit(0)
    return Path(f"/proc/self/fd/{folder}") / arguments.controller.name, report


def main() -> None:
    """Run a host until SIGTERM."""
    arguments = parser().parse_args()
    request_short_time_slices()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    try:
        listener, operators = _listen(arguments.listen), _listen(arguments.metrics)
    except OSError as error:
        places = " or ".join(f"{name}:{port}" for name, port in (arguments.listen, arguments.metrics))
        detail = f"cannot listen on {places}: {(error.strerror or str(error)).partition(' (')[0]}"
        refused: HeteeError = refusal(Refusal.INTERNAL, detail)
        sys.stderr.write(f"sectum: {refused.detail}\n")
        sys.exit(refused.exit_code)
    page = read_page()
    controller, report = _confine(arguments)
    connections = _connections(arguments.connections, files)
    service = HostService(listener, controller, connections)
    metrics = MetricsServer(operators, service.counts, controller, service.full, page)
    stop_on_signals(service)
    name, port = listener.getsockname()[:2]
    log(
        "ready",
        address=f"{name}:{port}",
        metrics=f"{arguments.metrics[0]}:{metrics.server_port}",
        connections=connections,
        confinement=report.confinement,
        unconfined=report.unconfined,
    )
    service.run(metrics)
    log("ended")


if __name__ == "__main__":
    main()
