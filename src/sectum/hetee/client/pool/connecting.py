"""Connecting to several racks: a session over all that a caller, or a pool, names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sectum.hetee.client.pool.connector import Connector
from sectum.hetee.client.pool.session import PoolSession, Racks
from sectum.hetee.client.trust import read_policy_file
from sectum.hetee.verification.policy import Policy


def connect_pool(
    racks: Racks,
    policy: Policy | str | Path,
    *,
    identity: Ed25519PrivateKey | None = None,
    **options: Any,
) -> PoolSession:
    """A session over several racks. It connects when the first model or training job is there.

    Args:
        racks: their addresses. Nothing of them is believed: the evidence of each rack is verified, as by `connect`.
        policy: what the owner accepts, for all racks; or the path of its JSON file.
        identity: the owner's key; None makes a new one for this session.
        options: further options of `connect`, for each rack: ``count`` is the number of accelerators on each, and
            ``wait_s`` is also how long batches wait while no rack serves.

    Returns:
        A session, to be used in a ``with`` statement.

    Raises:
        ServiceRefused: no rack is named.
        HeteeError: from ``racks``.
    """
    if identity is not None:
        options["identity"] = identity
    accepted = policy if isinstance(policy, Policy) else read_policy_file(policy)
    return PoolSession(racks, Connector(accepted, **options))
