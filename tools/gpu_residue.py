"""Searches a GPU's memory for what somebody left there; `gpu_check.py` starts it, each time as a process of its own.

    python tools/gpu_residue.py plant --seed 1     computes on cuda:0, resets it, and searches in the same process
    python tools/gpu_residue.py scan --seed 1      searches all memory that the driver gives to a new process

Both print one JSON object. It needs PyTorch with CUDA.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from hetee_tenants import Canary

TENANT = 1
_PIECE_BYTES, _SLICE = 256 << 20, 4 << 20  # of memory that is taken, and numbers that are looked at, at a time
_LOW = (1 << 48) - 1


def plant(canary: Canary) -> dict[str, Any]:
    """Compute on canaries, reset the accelerator, and search what this process can get of the GPU's memory then."""
    from sectum.hetee.worker.accelerators import accelerator
    from sectum.hetee.worker.accelerators.protocol import Stop
    from sectum.hetee.worker.models import inspect

    device = accelerator("cuda:0")
    loaded = device.load(inspect(canary.model(TENANT)))
    for _ in range(8):
        (output,) = loaded.run({"x": canary.numbers(TENANT, 1)}, ("y",), Stop())
    right = bool((output == canary.numbers(TENANT, 2)).all())
    return {"computed": right, "reset": device.reset()} | scan(canary)


def scan(canary: Canary) -> dict[str, Any]:
    """Take all memory of the GPU that is to be had, as it is, and count the canaries in it."""
    import torch

    taken: list[torch.Tensor] = []
    found = 0
    try:
        while True:
            taken.append(torch.empty(_PIECE_BYTES // 8, dtype=torch.int64, device="cuda:0"))
            for part in taken[-1].split(_SLICE):
                found += int(((part & _LOW) == canary.mark).sum())
    except torch.OutOfMemoryError:
        pass
    total_bytes = torch.cuda.get_device_properties(0).total_memory
    return {"searched_bytes": len(taken) * _PIECE_BYTES, "total_bytes": total_bytes, "canaries": found}


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["plant", "scan"])
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the canaries")
    arguments = parser.parse_args()
    canary = Canary(arguments.seed)
    print(json.dumps(plant(canary) if arguments.what == "plant" else scan(canary)))


if __name__ == "__main__":
    main()
