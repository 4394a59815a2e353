"""The reference kernel: a fixed piece of work whose time says how fast the machine is at this moment.

Six products of 256x256 float32 matrices, a few milliseconds. Its arrays lie on an anonymous mapping of their
own: allocated as the model's are, they would take part in the enclave's paging and disturb what they measure.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from pathlib import Path

import numpy as np

SIZE = 256
PRODUCTS = 6
SHARE = 0.25
MOST_RUNS = 60


class WaitClock:
    """Time in which threads could have run but had no CPU, as Linux counts it (schedstat), summed over threads."""

    def __init__(self) -> None:
        self._fds = []
        with contextlib.suppress(OSError):  # a kernel or a library OS without scheduler statistics
            tasks = sorted(Path("/proc/self/task").glob("*/schedstat"))
            self._fds = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in tasks]

    def now_ns(self) -> int:
        """Nanoseconds waited by all threads that there were when the clock was made; else 0."""
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
        self._once_ns()  # the first product makes the library's buffers

    def _once_ns(self) -> int:
        start = time.thread_time_ns()
        for _ in range(PRODUCTS):
            np.matmul(self._a, self._b, out=self._out)
        return max(1, time.thread_time_ns() - start)

    def time_ns(self, around_ns: int = 0) -> int:
        """Run the kernel and return its time, counted while this thread has a CPU.

        Args:
            around_ns: how long the inference is that this run goes with. The kernel is repeated until it has taken a
                quarter of that, and the mean returned: both are then means over the machine's fast and slow moments.
        """
        np.matmul(self._a, self._b, out=self._out)  # caches: what the inference left there is not its concern
        total_ns = runs = 0
        while runs == 0 or (total_ns < SHARE * around_ns and runs < MOST_RUNS):
            total_ns += self._once_ns()
            runs += 1
        return total_ns // runs
