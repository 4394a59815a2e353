"""Bounds the memory that all workers hold together: who holds most ends first, before the machine has none left."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from sectum.hetee.controller.enclaves import EnclaveEntry

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def private_bytes(pid: int) -> int:
    """The memory that a process has for itself; 0 if it has ended."""
    with suppress(OSError, ValueError):
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        return (int(resident) - int(shared)) * _PAGE_BYTES
    return 0


def too_large(held: Mapping[EnclaveEntry, int], limit_bytes: int) -> list[EnclaveEntry]:
    """The workers that must end, so that the others hold at most ``limit_bytes``.

    Each time it is the largest worker of the identity whose workers hold most. Spare workers, which hold no tenant's
    data, count but stay.
    """
    left, chosen = dict(held), list[EnclaveEntry]()
    while sum(left.values()) > limit_bytes:
        shares: Counter[object] = Counter()
        for enclave, n_bytes in left.items():
            if enclave.share is not None:
                shares[enclave.share] += n_bytes
        if not shares:
            break
        most = shares.most_common(1)[0][0]
        largest = max((enclave for enclave in left if enclave.share is most), key=lambda enclave: left[enclave])
        del left[largest]
        chosen.append(largest)
    return chosen
