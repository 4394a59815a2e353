"""Arguments and options that several commands share, and functions that read their values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sectum.errors import UsageError
from sectum.units import GIB, KIB, parse_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])

SMALLEST_EPC_BYTES = 256 * KIB
LARGEST_EPC_BYTES = 1024 * GIB
SMALLEST_AMOUNT = 0.001
LARGEST_BATCH = 65_536
LARGEST_THREADS = 256
LARGEST_RESOLUTION = 4096
_TIME_UNITS = {"ms": 1.0, "s": 1e3, "us": 1e-3}

Inputs = dict[str, "tuple[int, ...] | NDArray[np.generic]"]
"""Shapes of inputs, or their values."""
_INPUT_FILE = "sectum.input_file"


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


def read_latency(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    """Read a time, such as ``200ms`` or ``0.2s``, as milliseconds; a number alone is milliseconds."""
    text = value.strip().lower()
    number = text.rstrip("smu")
    try:
        ms = float(number) * _TIME_UNITS[text[len(number) :] or "ms"]
    except (ValueError, KeyError):
        ms = 0.0
    if not 1e-3 <= ms <= 1e9:  # not so for NaN either
        raise click.BadParameter(f"'{value}' is no latency: write for example 200ms or 0.2s, from 1us to 1000000s.")
    return ms


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


def read_inputs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> Inputs:
    """Read shapes and values of inputs, such as ``image=1x3x224x224`` or ``ids=[1,2]``; the name may contain ``=``."""
    inputs: Inputs = {}
    for value in values:
        name, found, text = value.rpartition("=")
        parts = text.lower().split("x")
        if found and name and all(p.isascii() and p.isdecimal() and len(p) <= 9 for p in parts):
            shape = tuple(int(part) for part in parts)
            if 0 in shape and len(shape) > 1:
                raise click.BadParameter(f"'{value}' has a dimension of 0: each must be 1 or more.")
            # One number is a size, or the value of an input of rank 0: 0 can only be the latter.
            given: Any = shape if 0 not in shape else _value(text)
        else:
            given = _value(text) if found and name else None
        if given is None:
            raise click.BadParameter(
                f"'{value}' is not a name with a shape or a value: write for example image=1x3x224x224, rate=16000 "
                "or ids=[1,2,3]."
            )
        if name in inputs:
            raise click.BadParameter(f"input '{name}' is given twice: write it once.")
        inputs[name] = given
    return inputs


def _value(text: str) -> NDArray[np.generic] | None:
    """A number, true or false, or nested lists of them; None where it is none of these."""
    import numpy as np

    try:
        value = np.array(json.loads(text, parse_constant=_no_number))
    except (ValueError, RecursionError, OverflowError):
        return None
    return value if value.dtype.kind in "biuf" and value.size else None


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _keep_input_file(ctx: click.Context, _param: click.Parameter, path: Path | None) -> None:
    """Read the values of inputs from an ``.npz`` file, for `_all_inputs`."""
    if path is None:
        return
    from sectum.cli.input_file import read_arrays

    try:
        ctx.meta[_INPUT_FILE] = read_arrays(path)
    except UsageError as error:
        raise click.BadParameter(f"{error}.") from error


def _all_inputs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Inputs:
    """Inputs of ``--input-file`` and of ``--input``."""
    of_file = ctx.meta.get(_INPUT_FILE, {})
    inputs = read_inputs(ctx, param, values)
    if twice := sorted(inputs.keys() & of_file.keys()):
        raise click.BadParameter(f"input '{twice[0]}' is in the input file as well: leave one out.")
    return {**of_file, **inputs}


def check_measurable(what: str, enclave: str) -> None:
    """Refuse ``--measure`` where predictions are of another enclave than the software enclave.

    Raises:
        UsageError: they are; the message says that ``what`` is measured elsewhere.
    """
    if enclave != "softepc":
        raise UsageError(f"{what} are measured in the software enclave: leave --measure or --enclave {enclave} out")


def examples(*lines: str) -> str:
    """Write a help text's examples, one command per line."""
    title = "Example:" if len(lines) == 1 else "Examples:"
    return f"\b\n{title}\n" + "\n".join(f"  {line}" for line in lines)


model_argument = click.argument("model", metavar="MODEL")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def shape_options(command: F) -> F:
    """Add ``--batch``, ``--input`` and ``--input-file``. The command gets the inputs of both as ``inputs``."""
    command = click.option(
        "--input",
        "inputs",
        callback=_all_inputs,
        multiple=True,
        metavar="NAME=SHAPE",
        help="Shape of an input, such as image=1x3x224x224, or its value, such as rate=16000 for a single number or "
        "ids=[1,2,3]; once per input.",
    )(command)
    command = click.option(
        "--input-file",
        callback=_keep_input_file,
        is_eager=True,
        expose_value=False,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Values of whole inputs: an .npz file of numpy, with an array for each input.",
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


def enclave_options(command: F) -> F:
    """Add ``--enclave``, a profile, and ``--epc``."""
    return click.option(
        "--enclave",
        default="softepc",
        show_default=True,
        metavar="PROFILE",
        help="Enclave profile: a name that 'sectum profiles' lists, or a JSON file.",
    )(epc_option(command))


runs_option = click.option(
    "--runs",
    callback=whole(100_000),
    metavar="N",
    help="Inferences to time.  [default: until the uncertainty is small]",
)


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


def file_option(name: str, meaning: str) -> Callable[[F], F]:
    """Add a file to write, and no folder."""
    return click.option(name, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help=meaning)


def folder_option(name: str, meaning: str, default: Path | None = None) -> Callable[[F], F]:
    """Add a folder."""
    metavar = None if default else "DIR"
    kind = click.Path(file_okay=False, path_type=Path)
    return click.option(name, type=kind, default=default, show_default=bool(default), metavar=metavar, help=meaning)


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
    return enclave_options(shape_options(command))
