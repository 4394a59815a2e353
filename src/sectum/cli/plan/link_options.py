"""``--enclaves``, ``--bandwidth`` and ``--delay``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sectum.cli.options import whole

if TYPE_CHECKING:
    from sectum.enclave.runners.relay import Pace

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_BITS_PER_S, DEFAULT_DELAY_MS = 10e9, 0.1
_BANDWIDTHS = {"kbps": 1e3, "mbps": 1e6, "gbps": 1e9, "tbps": 1e12}
_DELAYS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_AMOUNT = re.compile(r"\s*(\d{1,12}(?:\.\d{1,9})?)\s*([a-zA-Z]{1,4})\s*")
MOST_ENCLAVES = 64
_MOST_BITS_PER_S, _MOST_DELAY_MS = 1e15, 6e4


def _read(units: dict[str, float], most: float, example: str) -> Callable[..., float | None]:
    def read(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
        if value is None:
            return None
        match = _AMOUNT.fullmatch(value)
        factor = units.get(match[2].lower()) if match else None
        amount = float(match[1]) * factor if match and factor else -1.0
        if not 0 <= amount <= most:
            raise click.BadParameter(f"'{value}' is not one: write for example {example}.")
        return amount

    return read


def _read_bandwidth(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    found = _read(_BANDWIDTHS, _MOST_BITS_PER_S, "10Gbps or 500Mbps")(ctx, param, value)
    if found is not None and found < 1:
        raise click.BadParameter(f"'{value}' lets nothing through: write for example 10Gbps or 500Mbps.")
    return found


def pace_options(command: F) -> F:
    """Add ``--bandwidth`` as ``bits_per_s`` and ``--delay`` as ``delay_ms``."""
    command = click.option(
        "--delay",
        "delay_ms",
        callback=_read(_DELAYS, _MOST_DELAY_MS, "0.1ms or 50us"),
        metavar="TIME",
        help=f"Time that a message takes beside its transfer.  [default: {DEFAULT_DELAY_MS:g}ms]",
    )(command)
    return click.option(
        "--bandwidth",
        "bits_per_s",
        callback=_read_bandwidth,
        metavar="RATE",
        help=f"Of the links between enclaves.  [default: {DEFAULT_BITS_PER_S / 1e9:g}Gbps]",
    )(command)


def link_options(command: F) -> F:
    """Add ``--enclaves``, and what `pace_options` adds."""
    return click.option(
        "--enclaves",
        callback=whole(MOST_ENCLAVES),
        metavar="N",
        help="Share the network among at most so many enclaves, each with an EPC and threads of its own.",
    )(pace_options(command))


def pace(bits_per_s: float | None, delay_ms: float | None) -> Pace:
    """The link that was stated, with defaults for what was not."""
    from sectum.enclave.runners.relay import Pace

    return Pace(
        DEFAULT_BITS_PER_S if bits_per_s is None else bits_per_s, DEFAULT_DELAY_MS if delay_ms is None else delay_ms
    )
