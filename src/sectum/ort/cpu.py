"""The kinds of CPU that ONNX Runtime optimizes a graph for."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from sectum.errors import UsageError


class Cpu(Enum):
    """A kind of x86-64 CPU, as ONNX Runtime's kernels tell them apart; the value is the block of the layout NCHWc.

    Source: ``MlasNchwcGetBlockSize`` in ONNX Runtime.
    """

    SSE = 1  # no blocked layout
    AVX2 = 8
    AVX512 = 16

    @property
    def nchwc_block(self) -> int:
        """Floats in a block of the layout NCHWc; 1 where the runtime keeps the plain layout."""
        return self.value

    @classmethod
    def of_block(cls, nchwc_block: int) -> Cpu:
        """The kind of CPU with this block.

        Raises:
            UsageError: no CPU has it.
        """
        try:
            return cls(nchwc_block)
        except ValueError as error:
            blocks = ", ".join(f"{cpu.value} ({cpu.name})" for cpu in cls)
            raise UsageError(f"no CPU has an NCHWc block of {nchwc_block} floats: expected one of {blocks}") from error

    @classmethod
    def here(cls) -> Cpu:
        """The kind of this machine's CPU, by the features that the kernel lists; AVX2 where it lists none."""
        try:
            features = set(Path("/proc/cpuinfo").read_text().split())
        except OSError:
            return cls.AVX2
        if "avx512f" in features:
            return cls.AVX512
        return cls.AVX2 if "avx" in features else cls.SSE
