"""How a number is measured: reference kernels, sampling, latency, operator times, context.

What measures is loaded at its first use: predicting needs the reference kernels' description alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sectum.measure.latency import measure
    from sectum.measure.measurement import Measurement

__all__ = ["Measurement", "measure"]

_HOMES = {"Measurement": "measurement", "measure": "latency"}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
