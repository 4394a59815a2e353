"""The kinds of CPU that ONNX Runtime optimizes a graph for, and takes other kernels on."""

from __future__ import annotations

import ctypes
from enum import Enum
from pathlib import Path

from sectum.errors import UsageError

_CPU_INFO = Path("/proc/cpuinfo")
_SYS_ARCH_PRCTL, _ARCH_GET_XCOMP_SUPP, _XFEATURE_XTILEDATA = 158, 0x1021, 18


class Cpu(Enum):
    """A kind of x86-64 CPU, as ONNX Runtime's kernels tell them apart.

    The value is the block of the layout NCHWc, and whether products of bytes are computed in tiles (AMX). Sources:
    ``MlasNchwcGetBlockSize`` and ``MLAS_PLATFORM`` in ONNX Runtime.
    """

    SSE = (1, False)  # no blocked layout
    AVX2 = (8, False)
    AVX512 = (16, False)
    AMX = (16, True)  # AVX-512, and AMX for bytes

    @property
    def nchwc_block(self) -> int:
        """Floats in a block of the layout NCHWc; 1 where the runtime keeps the plain layout."""
        return self.value[0]

    @property
    def amx(self) -> bool:
        """Whether products of unsigned by signed bytes are computed in tiles."""
        return self.value[1]

    @property
    def without_amx(self) -> Cpu:
        """The kind that differs in nothing but AMX: operator models and datasets tell these two not apart."""
        return Cpu.of_block(self.nchwc_block)

    @property
    def words(self) -> str:
        """The features that decide which kernels run, for people."""
        return _WORDS[self]

    @classmethod
    def of_block(cls, nchwc_block: int, *, amx: bool = False) -> Cpu:
        """The kind of CPU with this block.

        Raises:
            UsageError: no CPU has it.
        """
        try:
            return cls((nchwc_block, amx))
        except ValueError as error:
            blocks = ", ".join(f"{cpu.nchwc_block} ({cpu.name})" for cpu in cls)
            raise UsageError(f"no CPU has an NCHWc block of {nchwc_block} floats: expected one of {blocks}") from error

    @classmethod
    def here(cls) -> Cpu:
        """The kind of this machine's CPU, by the features that the kernel lists; AVX2 where it lists none."""
        try:
            features = set(_CPU_INFO.read_text().split())
        except OSError:
            return cls.AVX2
        if "avx512f" in features:
            return cls.AMX if {"amx_tile", "amx_int8"} <= features and _kernel_gives_tiles() else cls.AVX512
        return cls.AVX2 if "avx" in features else cls.SSE


_WORDS = {Cpu.SSE: "SSE", Cpu.AVX2: "AVX2", Cpu.AVX512: "AVX-512", Cpu.AMX: "AVX-512 and AMX"}


def _kernel_gives_tiles() -> bool:
    """Whether processes get the registers of AMX: MLAS asks the kernel for them, and does without if it refuses.

    This only asks what the kernel would give.
    """
    given = ctypes.c_uint64(0)
    try:
        refused = ctypes.CDLL(None).syscall(_SYS_ARCH_PRCTL, _ARCH_GET_XCOMP_SUPP, ctypes.byref(given))
    except (AttributeError, OSError):
        return False
    return not refused and bool(given.value >> _XFEATURE_XTILEDATA & 1)
