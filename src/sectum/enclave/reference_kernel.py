"""The reference kernel: a fixed piece of work whose time says how fast the machine is at this moment.

Six products of 256x256 float32 matrices, a few milliseconds. Its arrays lie on an anonymous mapping of their
own: allocated as the model's are, they would take part in the enclave's paging and disturb what they measure.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import statistics
import time
from pathlib import Path

import numpy as np

SIZE = 256
PRODUCTS = 6
_OWN_STATISTICS = Path("/proc/thread-self/schedstat")


class WaitClock:
    """Time in which threads could have run but had no CPU, as Linux counts it (schedstat).

    Another process that takes turns on the same CPU stretches a long inference, and not a kernel of 2 ms that
    fits between two turns: no ratio takes that out, but the operating system knows it exactly.
    """

    def __init__(self, *, all_threads: bool) -> None:
        tasks = sorted(Path("/proc/self/task").glob("*/schedstat")) if all_threads else [_OWN_STATISTICS]
        self._fds = []
        with contextlib.suppress(OSError):  # a kernel or a library OS without scheduler statistics
            self._fds = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in tasks]

    def now_ns(self) -> int:
        """Nanoseconds waited by the calling thread, or by all that there were when the clock was made; else 0."""
        return sum(int(os.pread(fd, 96, 0).split()[1]) for fd in self._fds)


class ReferenceKernel:
    """The kernel and its three arrays, shape [256, 256], float32.

    It runs on one thread, whatever the inference uses: products that share their work among threads spend a
    quarter more time under the pager, in waking and waiting, and a reference must cost the same everywhere.
    """

    def __init__(self) -> None:
        n_bytes = SIZE * SIZE * 4
        self._memory = mmap.mmap(-1, 3 * n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        arrays = np.frombuffer(self._memory, np.float32).reshape(3, SIZE, SIZE)
        self._a, self._b, self._out = arrays
        rng = np.random.default_rng(0)
        rng.random(dtype=np.float32, out=self._a)
        rng.random(dtype=np.float32, out=self._b)
        self._wait_clock = WaitClock(all_threads=False)
        self._once_ns()  # the first product makes the library's buffers

    def _once_ns(self) -> int:
        waited = self._wait_clock.now_ns()
        start = time.perf_counter_ns()
        for _ in range(PRODUCTS):
            np.matmul(self._a, self._b, out=self._out)
        spent = time.perf_counter_ns() - start
        return max(1, spent - (self._wait_clock.now_ns() - waited))

    def time_ns(self, around_ns: int = 0) -> int:
        """Run the kernel and return its time, less what the calling thread waited for a CPU.

        Args:
            around_ns: how long the inference is that this run goes with. One run of 2 ms says little about a
                second, so the median of up to nine is taken for long ones.
        """
        np.matmul(self._a, self._b, out=self._out)  # caches: what the inference left there is not its concern
        runs = 1 + 2 * min(4, math.floor(around_ns / 100e6))
        return int(statistics.median(self._once_ns() for _ in range(runs)))
