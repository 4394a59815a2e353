"""Connecting to a service: verifies its evidence, and gets an enclave there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sectum.hetee.client.connection import HANDSHAKE_S, Connection
from sectum.hetee.client.session import Session
from sectum.hetee.client.transport import ATTEST_EVERY_S
from sectum.hetee.client.trust import Trust, read_policy_file
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.verification.policy import Policy
from sectum.hetee.wire.kinds import CHUNK_BYTES, CHUNK_BYTES_LEAST
from sectum.hetee.wire.messages import AcceleratorKind


def connect(
    url: str,
    policy: Policy | str | Path,
    *,
    identity: Ed25519PrivateKey | None = None,
    accelerator: AcceleratorKind = "cpu",
    count: int = 1,
    wait_s: float = 60.0,
    timeout_s: float = HANDSHAKE_S,
    chunk_bytes: int | None = None,
    attest_every_s: float = ATTEST_EVERY_S,
) -> Session:
    """Verify a service's evidence, and get an enclave there.

    Args:
        url: ``hetee://host:port``.
        policy: what the owner accepts, or the path of its JSON file.
        identity: the owner's key; None makes a new one for this session.
        accelerator: kind of accelerator.
        count: number of accelerators.
        wait_s: how long to wait for a free enclave.
        timeout_s: time limit for connecting, and for the handshake.
        chunk_bytes: size of the chunks that models and batches are sent in, 4 KiB to 1 MiB; None derives it from the
            size of the model or batch.
        attest_every_s: in a long session, the controller has to attest itself again after this time.

    Returns:
        A session, to be used in a ``with`` statement.

    Raises:
        EvidenceRefused: the evidence is not genuine, not fresh, or not chained to a root of the policy.
        PolicyRefused: the evidence is genuine, but the policy does not accept it.
        ServiceRefused: the service does not answer, or no enclave is free.
        HeteeError: other refusals.
    """
    if chunk_bytes is not None and not CHUNK_BYTES_LEAST <= chunk_bytes <= CHUNK_BYTES:
        raise refusal(
            Refusal.CHUNK_SIZE, f"chunks of {chunk_bytes} bytes, expected {CHUNK_BYTES_LEAST} to {CHUNK_BYTES}"
        )
    trust = Trust(policy if isinstance(policy, Policy) else read_policy_file(policy))
    connection = Connection(url, trust, identity or Ed25519PrivateKey.generate(), timeout_s)
    session = Session(connection, trust, chunk_bytes, attest_every_s)
    try:
        session.configure(accelerator, count, wait_s)
    except BaseException:
        with suppress(HeteeError):  # the first error matters more
            session.close(0)
        raise
    return session
