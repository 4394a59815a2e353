"""The reference kernel: a fixed piece of work whose time says how fast the machine is at this moment.

Six products of 256x256 float32 matrices, a few milliseconds. Its arrays lie on an anonymous mapping of their
own: allocated as the model's are, they would take part in the enclave's paging and disturb what they measure.
"""

from __future__ import annotations

import math
import mmap
import os
import statistics
import time

import numpy as np

SIZE = 256
PRODUCTS = 6


class WaitClock:
    """Time in which the calling thread could have run but had no CPU, as Linux counts it (schedstat).

    Another process that takes turns on the same CPU stretches a long inference, and not a kernel of 2 ms that
    fits between two turns: no ratio takes that out, but the kernel knows it exactly.
    """

    def __init__(self) -> None:
        try:
            self._fd = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a kernel or a library OS without scheduler statistics
            self._fd = -1

    def now_ns(self) -> int:
        """Nanoseconds waited since the thread started; always 0 where the kernel does not tell."""
        return int(os.pread(self._fd, 96, 0).split()[1]) if self._fd >= 0 else 0


class ReferenceKernel:
    """The kernel and its three arrays, shape [256, 256], float32."""

    def __init__(self, wait_clock: WaitClock) -> None:
        n_bytes = SIZE * SIZE * 4
        self._memory = mmap.mmap(-1, 3 * n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        arrays = np.frombuffer(self._memory, np.float32).reshape(3, SIZE, SIZE)
        self._a, self._b, self._out = arrays
        rng = np.random.default_rng(0)
        rng.random(dtype=np.float32, out=self._a)
        rng.random(dtype=np.float32, out=self._b)
        self._wait_clock = wait_clock
        self._once_ns()  # the first product makes the library's threads and buffers

    def _once_ns(self) -> int:
        waited = self._wait_clock.now_ns()
        start = time.perf_counter_ns()
        for _ in range(PRODUCTS):
            np.matmul(self._a, self._b, out=self._out)
        spent = time.perf_counter_ns() - start
        return max(1, spent - (self._wait_clock.now_ns() - waited))

    def time_ns(self, around_ns: int = 0) -> int:
        """Run the kernel and return its time, waiting for a CPU taken out.

        Args:
            around_ns: how long the inference is that this run goes with. One run of 2 ms says little about a
                second, so the median of up to nine is taken for long ones.
        """
        np.matmul(self._a, self._b, out=self._out)  # caches: what the inference left there is not its concern
        runs = 1 + 2 * min(4, math.floor(around_ns / 100e6))
        return int(statistics.median(self._once_ns() for _ in range(runs)))
