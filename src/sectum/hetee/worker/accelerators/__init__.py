"""What computes: one protocol, `protocol.Accelerator`, and who implements it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sectum.hetee.worker.accelerators.protocol import Accelerator


def accelerator(name: str, *, threads: int = 1) -> Accelerator:
    """Make the accelerator of a name such as ``cpu:0``.

    Args:
        name: kind, colon, number.
        threads: that compute one batch on a CPU.

    Raises:
        ValueError: there is no such kind.
    """
    match name.partition(":")[0]:
        case "cpu" | "cuda":
            from sectum.hetee.worker.accelerators.onnx_runtime import OnnxRuntimeAccelerator

            return OnnxRuntimeAccelerator(name, threads=threads)
        case "paced":
            from sectum.hetee.worker.accelerators.paced import PacedAccelerator

            return PacedAccelerator(name)
        case other:
            raise ValueError(f"no accelerator of kind '{other}': cpu, cuda and paced are known")
