"""A policy that accepts the software that is installed here, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from sectum.hetee.attest.measurement import CONTROLLER, WORKER, Measurer
from sectum.hetee.attest.policy import Policy


def installed_policy(roots: Iterable[str]) -> Policy:
    """Accept software evidence under these roots for the controller and the worker that are installed here.

    Args:
        roots: public keys of software manufacturers, in hexadecimal.
    """
    measurer = Measurer()
    return Policy(
        formats=("software",),
        measurements={
            "controller": (measurer.measure(CONTROLLER).hex(),),
            "worker": (measurer.measure(WORKER).hex(),),
        },
        roots=tuple(roots),
    )
