"""``python -m sectum.hetee.controller``: the controller by itself. ``sectum hetee controller`` becomes this process."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from sectum import __version__
from sectum.hetee.attest.endorsement import load
from sectum.hetee.attest.evidence import Subject
from sectum.hetee.attest.measurement import CONTROLLER, Measurer
from sectum.hetee.attest.software_provider import SoftwareProvider
from sectum.hetee.controller.hardening import end_with_parent, harden
from sectum.hetee.controller.processes import WORKER
from sectum.hetee.controller.service import Service, listen, log
from sectum.hetee.controller.settings import Settings
from sectum.hetee.errors import HeteeError


def _accelerators(text: str) -> dict[str, int]:
    counts = {}
    for part in text.split(","):
        kind, _, count = part.partition("=")
        if kind not in ("cpu", "cuda", "paced") or not count.isdecimal() or not 1 <= int(count) <= 64:
            raise argparse.ArgumentTypeError(f"'{part}' is not possible: write for example cpu=2,paced=4")
        counts[kind] = int(count)
    return counts


def _admitted(path: str) -> frozenset[bytes]:
    try:
        words = Path(path).read_text(encoding="ascii").split()
        keys = frozenset(bytes.fromhex(word) for word in words)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path} is no list of public keys in hexadecimal: {error}") from None
    if any(len(key) != 32 for key in keys):
        raise argparse.ArgumentTypeError(f"{path} has a key that is not 32 bytes long")
    return keys


def parser() -> argparse.ArgumentParser:
    """Read the arguments of a controller."""
    defaults = Settings()
    read = argparse.ArgumentParser("sectum hetee controller", description="The security controller of one machine.")
    read.add_argument("--socket", type=Path, required=True, help="where the host connects; in a folder of mode 0700")
    read.add_argument("--endorsement", type=Path, required=True, help="folder with this machine's endorsement")
    read.add_argument("--accelerators", type=_accelerators, default=defaults.accelerators, help="such as cpu=2,paced=4")
    read.add_argument("--admit", type=_admitted, metavar="FILE", help="public keys of clients; without it all")
    read.add_argument("--threads", type=int, default=1, help="threads that compute a batch on one CPU accelerator")
    read.add_argument(
        "--memory-mib",
        type=int,
        help="private memory that a worker may have; by default half of the machine's, and "
        "with cuda, which reserves more than it uses, any",
    )
    read.add_argument("--spares", type=int, default=defaults.spares, help="clean workers kept waiting")
    read.add_argument(
        "--enclaves", type=int, default=defaults.enclaves, help="the most workers that may serve at a time"
    )
    read.add_argument("--quantum-s", type=float, default=defaults.quantum_s, help="how long an accelerator is kept")
    read.add_argument("--drain-s", type=float, default=defaults.drain_s, help="how long sessions may finish")
    read.add_argument("--debug", action="store_true", help="say in all evidence that somebody may look inside")
    read.add_argument("--with-parent", type=int, metavar="PID", help="stop when this process, which started it, ends")
    return read


def _memory_mib(arguments: argparse.Namespace) -> int:
    """The limit of each worker; 0 is none."""
    if arguments.memory_mib is not None:
        return int(arguments.memory_mib)
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (2 << 20)
    return 0 if "cuda" in arguments.accelerators else half


def main() -> None:
    """Run a controller until SIGTERM."""
    arguments = parser().parse_args()
    if arguments.with_parent is not None:
        end_with_parent(arguments.with_parent)
    try:
        got = {} if arguments.debug else harden()
        endorsement = load(arguments.endorsement)
        measurer = Measurer()
        subject = Subject("controller", __version__, measurer.measure(CONTROLLER), arguments.debug)
        attester = SoftwareProvider(endorsement, subject)
        settings = Settings(
            accelerators=arguments.accelerators,
            admitted=arguments.admit,
            spares=arguments.spares,
            enclaves=arguments.enclaves,
            quantum_s=arguments.quantum_s,
            drain_s=arguments.drain_s,
        )
        options = {"--kinds": ",".join(settings.accelerators), "--threads": str(arguments.threads)}
        options |= {"--memory-mib": str(_memory_mib(arguments)), "--hardware": attester.format}
        command = (*WORKER, *(word for pair in options.items() for word in pair))
        service = Service(settings, attester, subject, listen(arguments.socket), measurer, command)
    except HeteeError as error:
        sys.stderr.write(f"sectum: {error.detail}\n")
        sys.exit(error.exit_code)
    log(
        "ready",
        evidence="software: no hardware protects this",
        measurement=subject.measurement.hex(),
        device=endorsement.device.hex(),
        debug=arguments.debug,
        hardening=got,
    )
    del endorsement  # its key has signed the attestation key, and is needed no more
    service.run()
    arguments.socket.unlink(missing_ok=True)
    log("ended")


if __name__ == "__main__":
    main()
