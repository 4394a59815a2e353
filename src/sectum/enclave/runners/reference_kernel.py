"""The reference kernels: two fixed pieces of work whose times say how fast the machine is at this moment.

Six products of 256x256 float32 matrices keep the multipliers busy, as dense convolutions do; three hundred sums over
128 KiB wait for caches, as depthwise convolutions, activations and the pager do. A neighbour on the other hardware
thread of the core slows the second more than the first, by 1.4 where it is 1.2; on a quiet machine both take 2 to 3 ms.
Their arrays lie on an anonymous mapping of their own: allocated as the model's are, they would take part in the
enclave's paging and disturb what they measure.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from pathlib import Path

import numpy as np

SIZE, PRODUCTS = 256, 6
SUM_ELEMENTS, SUMS = 1 << 15, 270
SHARE = 0.25
"""Of an inference's time: how long the kernels run with it, so that both are means over fast and slow moments."""
MOST_RUNS = 40


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


class ReferenceKernels:
    """The kernels and their arrays: three of shape [256, 256], one of [32768], float32.

    They run on one thread, whatever the inference uses: products that share their work among threads spend a
    quarter more time under the pager, in waking and waiting, and a reference must cost the same everywhere.
    """

    def __init__(self) -> None:
        square = SIZE * SIZE
        self._memory = mmap.mmap(-1, 4 * (3 * square + SUM_ELEMENTS), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        values = np.frombuffer(self._memory, np.float32)
        self._a, self._b, self._out = values[: 3 * square].reshape(3, SIZE, SIZE)
        self._row = values[3 * square :]
        rng = np.random.default_rng(0)
        rng.random(dtype=np.float32, out=self._a)
        rng.random(dtype=np.float32, out=self._b)
        rng.random(dtype=np.float32, out=self._row)
        self._products_ns()  # the first product makes the library's buffers

    def _products_ns(self) -> int:
        start = time.thread_time_ns()
        for _ in range(PRODUCTS):
            np.matmul(self._a, self._b, out=self._out)
        return max(1, time.thread_time_ns() - start)

    def _sums_ns(self) -> int:
        start = time.thread_time_ns()
        for _ in range(SUMS):
            np.add.reduce(self._row)
        return max(1, time.thread_time_ns() - start)

    def times_ns(self, around_ns: int = 0) -> tuple[int, int]:
        """Run both kernels in turn and return the mean time of each, counted while this thread has a CPU.

        Args:
            around_ns: how long the inference is that this run goes with.
        """
        np.matmul(self._a, self._b, out=self._out)  # caches: what the inference left there is not its concern
        products_ns = sums_ns = runs = 0
        while runs == 0 or (products_ns + sums_ns < SHARE * around_ns and runs < MOST_RUNS):
            products_ns += self._products_ns()
            sums_ns += self._sums_ns()
            runs += 1
        return products_ns // runs, sums_ns // runs
