"""``python -m sectum.hetee.controller`` runs the controller alone, as ``sectum hetee controller`` does."""

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
from sectum.hetee.controller.service import ControllerService, listen, log
from sectum.hetee.controller.settings import Settings
from sectum.hetee.errors import HeteeError


def _accelerators(text: str) -> dict[str, int]:
    counts = {}
    for part in text.split(","):
        kind, _, count = part.partition("=")
        if kind not in ("cpu", "cuda", "paced") or not count.isdecimal() or not 1 <= int(count) <= 64:
            raise argparse.ArgumentTypeError(
                f"'{part}' is not KIND=NUMBER with 1 to 64: write for example cpu=2,paced=4"
            )
        counts[kind] = int(count)
    return counts


def _admitted(path: str) -> frozenset[bytes]:
    try:
        words = Path(path).read_text(encoding="ascii").split()
        keys = frozenset(bytes.fromhex(word) for word in words)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path} is not a list of public keys in hexadecimal: {error}") from None
    if any(len(key) != 32 for key in keys):
        raise argparse.ArgumentTypeError(f"{path} holds a key that is not 32 bytes long")
    return keys


def parser() -> argparse.ArgumentParser:
    """The parser of the controller's arguments."""
    defaults = Settings()
    read = argparse.ArgumentParser("sectum hetee controller", description="The security controller of one machine.")
    read.add_argument(
        "--socket", type=Path, required=True, help="Unix socket to listen on for the host; its folder needs mode 0700"
    )
    read.add_argument("--endorsement", type=Path, required=True, help="folder with this machine's endorsement")
    read.add_argument("--accelerators", type=_accelerators, default=defaults.accelerators, help="such as cpu=2,paced=4")
    read.add_argument(
        "--admit",
        type=_admitted,
        metavar="FILE",
        help="file with the public keys of the clients to serve; without it all are served",
    )
    read.add_argument(
        "--threads", type=int, default=1, help="number of threads that compute a batch on one CPU accelerator"
    )
    read.add_argument(
        "--memory-mib",
        type=int,
        help="limit on the private memory of a worker; by default half of the machine's memory, "
        "and no limit with cuda, which reserves more than it uses",
    )
    read.add_argument("--spares", type=int, default=defaults.spares, help="number of unused workers to keep ready")
    read.add_argument(
        "--enclaves", type=int, default=defaults.enclaves, help="largest number of workers that serve at a time"
    )
    read.add_argument(
        "--quantum-s",
        type=float,
        default=defaults.quantum_s,
        help="time for which a session keeps an accelerator while others wait",
    )
    read.add_argument(
        "--drain-s",
        type=float,
        default=defaults.drain_s,
        help="time that open sessions have to finish when the service stops",
    )
    read.add_argument("--debug", action="store_true", help="state in all evidence that this process can be debugged")
    read.add_argument("--with-parent", type=int, metavar="PID", help="stop when this process, the parent, ends")
    return read


def _memory_mib(arguments: argparse.Namespace) -> int:
    """The memory limit of each worker; 0 for no limit."""
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
        service = ControllerService(settings, attester, subject, listen(arguments.socket), measurer, command)
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
    del endorsement  # its key has signed the attestation key and is not needed any more
    service.run()
    arguments.socket.unlink(missing_ok=True)
    log("ended")


if __name__ == "__main__":
    main()
