"""Accelerators: the protocol `protocol.Accelerator` and its implementations."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sectum.hetee.worker.accelerators.protocol import Accelerator


def accelerator(name: str, *, threads: int = 1, devices: tuple[str, ...] = ()) -> Accelerator:
    """Make the accelerator of a name such as ``cpu:0``.

    Args:
        name: kind, colon, number.
        threads: number of threads that compute one batch on a CPU.
        devices: all accelerators with device nodes that this worker owns; CUDA numbers them from 0.

    Raises:
        ValueError: the kind is unknown.
    """
    match name.partition(":")[0]:
        case "cpu" | "cuda":
            from sectum.hetee.worker.accelerators.onnx_runtime import OnnxRuntimeAccelerator

            return OnnxRuntimeAccelerator(name, threads=threads, device=devices.index(name) if name in devices else 0)
        case "paced":
            from sectum.hetee.worker.accelerators.paced import PacedAccelerator

            return PacedAccelerator(name)
        case other:
            raise ValueError(f"no accelerator of kind '{other}': use cpu, cuda or paced")
