"""Arguments and options that several commands share, and functions that read their values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sectum.errors import UsageError
from sectum.units import GIB, KIB, parse_bytes

F = TypeVar("F", bound=Callable[..., Any])

SMALLEST_EPC_BYTES = 256 * KIB
LARGEST_EPC_BYTES = 1024 * GIB
SMALLEST_AMOUNT = 0.001
LARGEST_BATCH = 65_536
LARGEST_THREADS = 256

InputShapes = dict[str, tuple[int, ...]]


def read_size(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """Read an EPC size, such as ``93MiB``, as bytes; refuse sizes that no enclave has."""
    if value is None:
        return None
    try:
        n_bytes = parse_bytes(value)
    except UsageError as error:
        raise click.BadParameter(f"{error}.") from error
    if n_bytes < SMALLEST_EPC_BYTES:
        meant = f"; did you mean {value.strip()}MiB?" if value.strip().isdecimal() and n_bytes else "."
        raise click.BadParameter(f"'{value}' is only {n_bytes} bytes: write at least 256KiB{meant}")
    if n_bytes > LARGEST_EPC_BYTES:
        raise click.BadParameter(f"'{value}' is more than any enclave has: write at most 1024GiB.")
    return n_bytes


def whole(largest: int) -> Callable[[click.Context, click.Parameter, str | None], int | None]:
    """Read a whole number from 1 to ``largest``."""

    def read(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
        if value is None:
            return None
        text = value.strip()
        if not (text.isascii() and text.isdecimal() and len(text) <= 12 and 1 <= int(text) <= largest):
            raise click.BadParameter(f"'{value}' is out of range: write a whole number from 1 to {largest:,}.")
        return int(text)

    return read


def positive(unit: str, largest: float) -> Callable[[click.Context, click.Parameter, str | None], float | None]:
    """Read a number from 0.001 to ``largest``."""

    def read(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
        if value is None:
            return None
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if not SMALLEST_AMOUNT <= number <= largest:  # not so for NaN either
            raise click.BadParameter(
                f"'{value}' is out of range: write {unit} above 0, from {SMALLEST_AMOUNT:g} to {largest:,.0f}."
            )
        return number

    return read


def read_inputs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> InputShapes:
    """Read shapes of inputs, such as ``image=1x3x224x224``; the name may contain ``=``."""
    shapes: InputShapes = {}
    for value in values:
        name, found, text = value.rpartition("=")
        parts = text.lower().split("x")
        if not found or not name or not all(p.isascii() and p.isdecimal() and len(p) <= 9 for p in parts):
            raise click.BadParameter(f"'{value}' is not a name with a shape: write for example image=1x3x224x224.")
        shape = tuple(int(part) for part in parts)
        if 0 in shape:
            raise click.BadParameter(f"'{value}' has a dimension of 0: each must be 1 or more.")
        if name in shapes:
            raise click.BadParameter(f"input '{name}' is given twice: write it once.")
        shapes[name] = shape
    return shapes


def examples(*lines: str) -> str:
    """Write a help text's examples, one command per line."""
    title = "Example:" if len(lines) == 1 else "Examples:"
    return f"\b\n{title}\n" + "\n".join(f"  {line}" for line in lines)


model_argument = click.argument("model", metavar="MODEL")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def shape_options(command: F) -> F:
    """Add ``--batch`` and ``--input``."""
    command = click.option(
        "--input",
        "inputs",
        callback=read_inputs,
        multiple=True,
        metavar="NAME=SHAPE",
        help="Shape of an input, such as image=1x3x224x224; once per input.",
    )(command)
    return click.option(
        "--batch",
        callback=whole(LARGEST_BATCH),
        metavar="N",
        help="Samples, such as images, in one inference.  [default: the model's, or 1]",
    )(command)


def threads_option(command: F) -> F:
    """Add ``--threads``."""
    return click.option(
        "--threads",
        callback=whole(LARGEST_THREADS),
        default="1",
        show_default=True,
        metavar="N",
        help="Threads that compute.",
    )(command)


def epc_option(command: F) -> F:
    """Add ``--epc``."""
    return click.option(
        "--epc",
        "epc_bytes",
        callback=read_size,
        metavar="SIZE",
        help="Size of the EPC, such as 93MiB.  [default: the profile's]",
    )(command)


def deadline_option(default: str, meaning: str) -> Callable[[F], F]:
    """Add ``--deadline`` in seconds."""
    return click.option(
        "--deadline",
        "deadline_s",
        callback=positive("seconds", 86_400),
        default=default,
        show_default=True,
        metavar="S",
        help=meaning,
    )


def output_option(meaning: str) -> Callable[[F], F]:
    """Add ``-o`` and ``--output``, a file to write."""
    return click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help=meaning)


def prediction_options(command: F) -> F:
    """Add the options of a prediction."""
    command = click.option("--strict", is_flag=True, help="Refuse operators unlike those that were measured.")(command)
    command = click.option(
        "--native-ms",
        callback=positive("milliseconds", 1e9),
        metavar="X",
        help="Latency outside an enclave, if you know it; replaces the predicted one.",
    )(command)
    command = threads_option(command)
    command = shape_options(command)
    command = epc_option(command)
    return click.option(
        "--enclave",
        default="softepc",
        show_default=True,
        metavar="PROFILE",
        help="Enclave profile: a name that 'sectum profiles' lists, or a JSON file.",
    )(command)
