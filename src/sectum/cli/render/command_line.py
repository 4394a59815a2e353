"""Commands that people can type next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from sectum.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from sectum.cli.options import Inputs
    from sectum.enclave.runners.relay import Pace


def typed(
    command: str,
    model: str,
    *,
    enclave: str = "softepc",
    epc_bytes: int | None = None,
    batch: int | None = None,
    inputs: Inputs | None = None,
    threads: int = 1,
    enclaves: int = 1,
    link: Pace | None = None,
) -> str:
    """Write a command of ``sectum`` about a model; options with their default are left out."""
    words = ["sectum", command, model]
    if enclave != "softepc":
        words += ["--enclave", enclave]
    if epc_bytes is not None:
        words += ["--epc", size(epc_bytes)]
    if batch is not None:
        words += ["--batch", str(batch)]
    for name, shape in (inputs or {}).items():
        if isinstance(shape, tuple):
            words += ["--input", f"{name}={'x'.join(map(str, shape))}"]
    if threads != 1:
        words += ["--threads", str(threads)]
    if enclaves != 1:
        words += ["--enclaves", str(enclaves), *_link(link)]
    return shlex.join(words)


def _link(link: Pace | None) -> list[str]:
    """Options of a link between enclaves."""
    from sectum.plan.links import DEFAULT_LINK

    words = []
    if link is not None and link.bits_per_s != DEFAULT_LINK.bits_per_s:
        words += ["--bandwidth", f"{link.bits_per_s / 1e3:.9f}".rstrip("0").rstrip(".") + "kbps"]
    if link is not None and link.delay_ms != DEFAULT_LINK.delay_ms:
        words += ["--delay", f"{link.delay_ms:.9f}".rstrip("0").rstrip(".") + "ms"]
    return words


def size(n_bytes: int) -> str:
    """Write a size so that it is read as exactly so many bytes: ``93MiB``, or a number of bytes."""
    text = format_bytes(n_bytes).replace(" ", "").replace(",", "")
    return text if parse_bytes(text) == n_bytes else str(n_bytes)


def unbroken(text: str, command: str) -> str:
    """The text, where a paragraph does not break the line within a command."""
    return text.replace(command, command.replace(" ", "\N{NO-BREAK SPACE}"))
