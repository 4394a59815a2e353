"""The reference kernels: two fixed pieces of work whose times tell how fast the machine is at that moment.

The GEMM kernel (``products`` in names and stored fields) multiplies 256x256 float32 matrices six times. It is bound by
arithmetic, like dense convolutions. The reduction kernel (``sums``) adds up 128 KiB 270 times. It is bound by caches,
like depthwise convolutions, activations and the pager. A neighbour on the core's other hardware thread slows the
reduction kernel by 1.4 when it slows the GEMM kernel by 1.2. On a quiet machine both take 2 to 3 ms.

Their arrays lie in an anonymous mapping of their own. If they were allocated like the model's, they would be paged with
the enclave and disturb the measurement.
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
"""How long the kernels run, as a share of the inference's time, so that both average fast and slow moments."""
MOST_RUNS = 40


class WaitClock:
    """Time in which threads were ready to run but had no CPU, from Linux (schedstat), summed over threads."""

    def __init__(self) -> None:
        self._waited_ns: dict[int, int] = {}  # by the descriptor of a thread's statistics
        with contextlib.suppress(OSError):  # a kernel or a library OS without scheduler statistics
            for path in sorted(Path("/proc/self/task").glob("*/schedstat")):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
                    self._waited_ns[os.open(path, os.O_RDONLY | os.O_CLOEXEC)] = 0

    def now_ns(self) -> int:
        """Nanoseconds waited by all threads that existed when the clock was made; 0 if the kernel does not tell.

        A thread that has ended counts with what it had waited when this was last asked.
        """
        for file in self._waited_ns:
            with contextlib.suppress(ProcessLookupError):
                self._waited_ns[file] = int(os.pread(file, 96, 0).split()[1])
        return sum(self._waited_ns.values())


class ReferenceKernels:
    """The kernels and their arrays: three of shape [256, 256], one of [32768], float32.

    They run on one thread, however many the inference uses: a GEMM on several threads takes a quarter longer under the
    pager, for waking and waiting, and a reference must cost the same everywhere.
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
        self._products_ns()  # the first GEMM allocates the library's buffers

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
        """Run both kernels alternately and return the mean CPU time of each: GEMM kernel, reduction kernel.

        Args:
            around_ns: time of the inference that this run belongs to.
        """
        np.matmul(self._a, self._b, out=self._out)  # fills the caches, whatever the inference left there
        products_ns = sums_ns = runs = 0
        while runs == 0 or (products_ns + sums_ns < SHARE * around_ns and runs < MOST_RUNS):
            products_ns += self._products_ns()
            sums_ns += self._sums_ns()
            runs += 1
        return products_ns // runs, sums_ns // runs
