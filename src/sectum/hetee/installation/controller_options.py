"""The options of ``sectum hetee controller``, for the program that prepares a controller."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from sectum.hetee.controller.allocation import PRIORITIES
from sectum.hetee.controller.settings import Settings, Start
from sectum.hetee.wire.messages import ACCELERATOR_KINDS

_TRAINER_STARTS_S = 120.0  # loading PyTorch takes 2 s of processor time, of which a busy machine gives little


# Before it has a model, a worker holds 70 MB, and with PyTorch 230 MB (measured): with less it ends when it is needed.
_LEAST_MIB, _TRAINER_LEAST_MIB = 128, 320


def _accelerators(text: str) -> dict[str, int]:
    counts = {}
    for part in text.split(","):
        kind, _, count = part.partition("=")
        if kind not in ACCELERATOR_KINDS or not count.isdecimal() or not 1 <= int(count) <= 64:
            raise argparse.ArgumentTypeError(
                f"'{part}' is not KIND=NUMBER with a kind of {', '.join(ACCELERATOR_KINDS)} and a number from 1 to 64: "
                "write for example cpu=2,paced=4"
            )
        counts[kind] = int(count)
    return counts


def _grace(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 600:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds from 0 to 600")
    return seconds


def _admitted(path: str) -> dict[bytes, int]:
    try:
        words = [word.partition(":") for word in Path(path).read_text(encoding="ascii").split()]
        keys = {bytes.fromhex(key): int(priority or "0") for key, _, priority in words}
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path} is not a list of public keys in hexadecimal: {error}") from None
    if any(len(key) != 32 for key in keys):
        raise argparse.ArgumentTypeError(f"{path} holds a key that is not 32 bytes long")
    if any(priority not in PRIORITIES for priority in keys.values()):
        raise argparse.ArgumentTypeError(f"{path} holds a priority that is not 0 to {PRIORITIES[-1]}")
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
        help="file with the public keys of the clients to serve, as KEY or KEY:PRIORITY; without it all are served",
    )
    read.add_argument(
        "--threads", type=int, default=1, help="number of threads that compute a batch on one CPU accelerator"
    )
    read.add_argument(
        "--memory-mib",
        type=int,
        default=_machine_mib() // 2,
        help="limit on the private memory of a worker without a GPU; by default half of the machine's memory",
    )
    read.add_argument(
        "--workers-memory-mib",
        type=int,
        default=_machine_mib() * 3 // 4,
        help="memory that all workers together may hold; by default three quarters of the machine's",
    )
    read.add_argument(
        "--longest-batch-s",
        type=float,
        default=defaults.longest_batch_s,
        help="time that a session has to finish its batch when others wait for its accelerator",
    )
    read.add_argument(
        "--job-grace-s",
        type=_grace,
        default=defaults.job_grace_s,
        help="time that a job of the insecure world has to end when a session needs its accelerators",
    )
    read.add_argument("--training", action="store_true", help="start workers that can train as well")
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
    read.add_argument("--debug", action="store_true", help="state in all evidence that this process can be debugged")
    read.add_argument("--with-parent", type=int, metavar="PID", help="stop when this process, the parent, ends")
    return read


def read(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the controller's arguments; what is wrong ends the program with exit code 2 and a sentence.

    Args:
        words: the arguments; None for those of this process.
    """
    given, least = parser().parse_args(words), _LEAST_MIB
    if given.training:
        least = _TRAINER_LEAST_MIB
    if given.memory_mib < least:
        which = "a worker that can train" if given.training else "a worker"
        parser().error(f"argument --memory-mib: {given.memory_mib} is too little, {which} needs {least} or more")
    return given


def _machine_mib() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20


def start(arguments: argparse.Namespace, place: Path, user: int, host: int, operator: int) -> Start:
    """How the controller starts, given its options.

    Args:
        arguments: from `parser`.
        place: folder of the images, as the controller will see it.
        user: user id of the controller; 0 if it keeps the user.
        host: user id of the host.
        operator: user id of who starts the rack.
    """
    settings = Settings(
        accelerators=arguments.accelerators,
        admitted=arguments.admit,
        spares=arguments.spares,
        enclaves=arguments.enclaves,
        quantum_s=arguments.quantum_s,
        longest_batch_s=arguments.longest_batch_s,
        job_grace_s=arguments.job_grace_s,
        starting_s=_TRAINER_STARTS_S if arguments.training else Settings.starting_s,
        memory_bytes=arguments.workers_memory_mib << 20,
        drain_s=arguments.drain_s,
    )
    return Start(
        settings=settings,
        images=str(place),
        users=user,
        host_user=host,
        threads=arguments.threads,
        memory_mib=arguments.memory_mib,
        debug=arguments.debug,
        allow_unconfined=arguments.allow_unconfined,
        operator=operator,
        training=arguments.training,
    )
