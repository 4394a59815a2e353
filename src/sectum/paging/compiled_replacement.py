"""The page-replacement rule in C, compiled for this machine, for searches over thousands of candidates.

A search uses it if there is a compiler, and the rule in Python otherwise; the counts are the same. A single prediction
does not wait for a compiler.

It stays because searches need it. *Measured* over the candidates of ``benchmarks/search_speed.py`` (340 of them, one
worker, CPU time, five alternating runs with and without it on a busy virtual machine with two AMD EPYC cores, medians):

==================== ============ ============== ================
candidates that page compiled, ms in Python, ms  Python/compiled
==================== ============ ============== ================
none                 9.4          9.9            1.0
48 %                 10.7         13.9           1.3
91 %                 11.6         30.0           2.7
==================== ============ ============== ================
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sectum.compiling import compiled, sources_of
from sectum.errors import EnclaveFailed, EnclaveUnavailable
from sectum.paging.residency import ReplacementPolicy

_FLAGS = ("-std=c11", "-O2", "-fPIC", "-fvisibility=hidden", "-shared")


class CompiledReplacement:
    """The compiled rule; `POLICIES` are those that it knows."""

    POLICIES = frozenset({ReplacementPolicy.FIFO, ReplacementPolicy.SECOND_CHANCE})

    def __init__(self, library: Path) -> None:
        self._run = ctypes.CDLL(str(library)).sectum_run_round
        whole, address = ctypes.c_int64, ctypes.c_void_p
        self._run.argtypes = [address, whole, whole, whole, whole, address, address, address, address]
        self._run.restype = None

    def pages(
        self,
        touches: NDArray[np.int64],
        operators: int,
        budget: int,
        policy: ReplacementPolicy,
        batch: int,
    ) -> CompiledPages:
        """Give an empty EPC for rounds of these `replacement.Touches`. The caller has checked the arguments."""
        return CompiledPages(self._run, touches, operators, budget, policy, batch)


class CompiledPages:
    """The pages in the EPC and the touches of a round; `residency.ResidentPages` does the same in Python."""

    def __init__(
        self,
        run: ctypes._NamedFuncPointer,
        touches: NDArray[np.int64],
        operators: int,
        budget: int,
        policy: ReplacementPolicy,
        batch: int,
    ) -> None:
        self._run = run
        self._touches = np.ascontiguousarray(touches, dtype=np.int64)
        self._operators = operators
        self._budget, self._batch = budget, min(batch, budget)
        self._second_chance = policy is ReplacementPolicy.SECOND_CHANCE
        ends = self._touches[:, 1] + self._touches[:, 2]
        self._pages = np.zeros(int(ends.max(initial=0)), dtype=np.uint8)
        self._ring = np.zeros(budget, dtype=np.uint32)
        self._queue = np.zeros(2, dtype=np.int64)  # place of the oldest page, resident pages

    @property
    def resident(self) -> int:
        """Pages in the EPC."""
        return int(self._queue[1])

    def run_round(self) -> NDArray[np.int64]:
        """Simulate a round: loads, evictions and minor faults; shape ``(3, operators)``."""
        counts = np.zeros((self._operators, 3), dtype=np.int64)
        self._run(
            self._touches.ctypes.data,
            len(self._touches),
            self._budget,
            self._batch,
            self._second_chance,
            self._pages.ctypes.data,
            self._ring.ctypes.data,
            self._queue.ctypes.data,
            counts.ctypes.data,
        )
        return counts.T

    def state(self) -> bytes:
        """All that later counts depend on: the pages from the oldest to the newest, and whether each is mapped."""
        head, resident = self._queue.tolist()
        pages = np.roll(self._ring, -head)[:resident]
        return pages.tobytes() + self._pages[pages].tobytes()


@cache
def compiled_replacement() -> CompiledReplacement | None:
    """Give the compiled rule; None where it cannot be compiled or stored."""
    try:
        folder = sources_of("replacement", __file__, "replacement.c")
        return CompiledReplacement(compiled("replacement", folder, [folder / "replacement.c"], _FLAGS))
    except (EnclaveUnavailable, EnclaveFailed):
        return None
