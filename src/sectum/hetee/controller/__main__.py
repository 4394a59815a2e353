"""The controller's program. ``sectum hetee controller`` prepares its surroundings and starts it."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path

from sectum import __version__
from sectum.hetee.attest.endorsement import load
from sectum.hetee.attest.evidence import Subject
from sectum.hetee.attest.reference import read_reference
from sectum.hetee.attest.software_provider import SoftwareProvider
from sectum.hetee.confinement import ConfinementReport, confine_controller
from sectum.hetee.confinement.required import CONFINEMENT
from sectum.hetee.controller.accelerators import has_nodes
from sectum.hetee.controller.hardening import end_with_parent
from sectum.hetee.controller.service import ControllerService, WorkerStart, listen, log
from sectum.hetee.controller.settings import Settings
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.image import measurement, running
from sectum.hetee.wire.messages import ACCELERATOR_KINDS


def _accelerators(text: str) -> dict[str, int]:
    counts = {}
    for part in text.split(","):
        kind, _, count = part.partition("=")
        if kind not in ACCELERATOR_KINDS or not count.isdecimal() or not 1 <= int(count) <= 64:
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
    read.add_argument(
        "--reference",
        type=Path,
        required=True,
        help="folder with the signed manifest of worker images that may be booted, as 'sectum hetee sign' writes it",
    )
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
        help="limit on the private memory of a worker without a GPU; by default half of the machine's memory",
    )
    read.add_argument(
        "--workers-memory-mib",
        type=int,
        help="memory that all workers together may hold; by default three quarters of the machine's",
    )
    read.add_argument(
        "--longest-batch-s",
        type=float,
        default=defaults.longest_batch_s,
        help="time that a session has to finish its batch when others wait for its accelerator",
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
    read.add_argument(
        "--allow-unconfined",
        action="store_true",
        help="serve although the kernel refuses a step of confinement; evidence says so, and policies refuse it",
    )
    read.add_argument("--images", type=Path, help=argparse.SUPPRESS)
    read.add_argument("--users", type=int, default=0, help=argparse.SUPPRESS)
    read.add_argument("--host-user", type=int, default=os.geteuid(), help=argparse.SUPPRESS)
    read.add_argument("--debug", action="store_true", help="state in all evidence that this process can be debugged")
    read.add_argument("--with-parent", type=int, metavar="PID", help="stop when this process, the parent, ends")
    return read


def _memory_mib(arguments: argparse.Namespace) -> int:
    """The memory limit of each worker; 0 for no limit."""
    if arguments.memory_mib is not None:
        return int(arguments.memory_mib)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (2 << 20)


def _all_workers_mib(arguments: argparse.Namespace) -> int:
    """The limit on the memory of all workers together."""
    if arguments.workers_memory_mib is not None:
        return int(arguments.workers_memory_mib)
    return 3 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (4 << 20)


def _confine(arguments: argparse.Namespace) -> ConfinementReport:
    """Confine this process, and check that it runs nothing but its image.

    Raises:
        ServiceRefused: the kernel refuses a step that policies require, and the operator does not allow that.
    """
    report = ConfinementReport()
    confine_controller(report, arguments.host_user, debug=arguments.debug)
    found = running.foreign()
    if found or arguments.images is None:
        report.refused("measured-code", ", ".join(found[:3]) or "started without an image")
    else:
        report.confinement.append("measured-code")
    required = set(CONFINEMENT["controller"]) - ({"not-dumpable"} if arguments.debug else set())
    if required - set(report.confinement) and not arguments.allow_unconfined:
        detail = f"the controller is not confined: {'; '.join(report.unconfined)}"
        raise refusal(Refusal.INTERNAL, detail, "allow it with --allow-unconfined; clients then need another policy")
    return report


def _compile(image: Path, caches: Path, options: list[str]) -> None:
    """Compile the worker's code once, from its image, so that workers start fast. No worker can write there."""
    words = [*options, "--rehearse"]
    command = running.command(image, "sectum.hetee.worker", words, caches=caches, compiles=True)
    code = subprocess.run(command, env=running.ENVIRONMENT, stdin=subprocess.DEVNULL, check=False).returncode
    if code:
        raise refusal(Refusal.INTERNAL, f"the worker's software cannot run: exit code {code}")


def _workers(arguments: argparse.Namespace, hardware: str) -> WorkerStart:
    spares = ",".join(f"{kind}:0" for kind in arguments.accelerators if not has_nodes(kind))  # they touch no device
    options = {"--accelerators": spares, "--threads": str(arguments.threads)}
    options |= {"--memory-mib": str(_memory_mib(arguments)), "--hardware": hardware}
    image, caches = arguments.images / "worker", arguments.images / "caches"
    measured = measurement.measure(measurement.in_image(image))
    if measured not in read_reference(arguments.reference):
        detail = f"the worker's image {measured.hex()} is not in the signed reference manifest, and is not run"
        raise refusal(Refusal.NOT_GENUINE, f"{detail}; if you changed the software, run 'sectum hetee sign'")
    words = [word for pair in options.items() for word in pair]
    _compile(image, caches, words)
    command = running.command(image, "sectum.hetee.worker", words, caches=caches)
    return WorkerStart(command, running.ENVIRONMENT, measured, arguments.users)


def main() -> None:
    """Run a controller until SIGTERM."""
    arguments = parser().parse_args()
    if arguments.with_parent is not None:
        end_with_parent(arguments.with_parent)
    try:
        report = _confine(arguments)
        endorsement = load(arguments.endorsement)
        images = arguments.images
        if images is None:
            raise refusal(Refusal.INTERNAL, "there is no software image", "start it with 'sectum hetee controller'")
        for file in arguments.endorsement.iterdir():  # a copy, made for this process; it is in memory now
            file.unlink()
        measured = measurement.measure(measurement.in_image(images / "controller"))
        subject = Subject("controller", __version__, measured, arguments.debug, tuple(report.confinement))
        attester = SoftwareProvider(endorsement, subject)
        settings = Settings(
            accelerators=arguments.accelerators,
            admitted=arguments.admit,
            spares=arguments.spares,
            enclaves=arguments.enclaves,
            quantum_s=arguments.quantum_s,
            longest_batch_s=arguments.longest_batch_s,
            memory_bytes=_all_workers_mib(arguments) << 20,
            drain_s=arguments.drain_s,
            confinement=frozenset(() if arguments.allow_unconfined else CONFINEMENT["worker"]),
            unconfined=tuple(report.unconfined),
        )
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        hosts = {os.geteuid(), arguments.host_user}
        workers = _workers(arguments, attester.format)
        service = ControllerService(settings, attester, subject, listen(arguments.socket), workers, hosts)
    except HeteeError as error:
        sys.stderr.write(f"sectum: {error.detail}\n")
        sys.exit(error.exit_code)
    log(
        "ready",
        evidence="software: no hardware protects this",
        measurement=subject.measurement.hex(),
        device=endorsement.device.hex(),
        debug=arguments.debug,
        confinement=report.confinement,
        unconfined=report.unconfined,
    )
    del endorsement  # the attester has what it needs of it
    service.run()
    arguments.socket.unlink(missing_ok=True)
    log("ended")


if __name__ == "__main__":
    main()
