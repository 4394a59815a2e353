"""A policy that accepts the software that is installed here, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from sectum.hetee.image.measurement import measure
from sectum.hetee.installation.software import CONTROLLER, TRAINER, WORKER, files
from sectum.hetee.verification.policy import Policy


def installed_policy(roots: Iterable[str], *, training: bool = False, worker: bytes | None = None) -> Policy:
    """Accept software evidence under these roots for the controller and the worker that are installed here.

    Args:
        roots: public keys of software manufacturers, in hexadecimal.
        training: whether the worker is the one that also trains.
        worker: measurement of that worker, 32 bytes; None to measure it.
    """
    worker = worker or measure(files(TRAINER if training else WORKER))
    return Policy(
        formats=("software",),
        measurements={
            "controller": (measure(files(CONTROLLER)).hex(),),
            "worker": (worker.hex(),),
        },
        roots=tuple(roots),
    )


def policy_file(policy: Policy) -> bytes:
    """A policy as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(policy), indent=2) + b"\n"


def write_policy(path: Path, policy: Policy) -> None:
    """Write a policy to a file, completely or not at all.

    Raises:
        OSError: it cannot be written.
    """
    made = path.with_name(f"{path.name}.new")
    made.write_bytes(policy_file(policy))
    made.replace(path)
