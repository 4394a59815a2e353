"""Advice said in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sectum.cli.render.figures import enough, mebibytes, milliseconds, percent, times
from sectum.cli.render.untrusted import printable

if TYPE_CHECKING:
    from sectum.predict.prediction import Advice


def title(advice: Advice) -> str:
    """What it asks to do, as a heading."""
    return _WORDS[advice.kind][0]


def sentence(advice: Advice) -> str:
    """What it comes to, with its numbers."""
    return _WORDS[advice.kind][1](advice.values)


def to_json(advice: Advice) -> dict[str, Any]:
    """Give the advice as JSON types, with its sentence."""
    return {**asdict(advice), "text": sentence(advice)}


def _epc(values: dict[str, Any]) -> str:
    return (
        f"Paging stops at {enough(values['epc_bytes'])} of protected memory; an inference then takes "
        f"{milliseconds(values['latency_ms'])}, {times(values['speedup'])} faster."
    )


def _layers(values: dict[str, Any]) -> str:
    layers = values["layers"]
    if not layers:
        return "No layer takes any time."
    share = percent(sum(layer["share"] for layer in layers))
    names = _listed((layer["name"], milliseconds(layer["ms"])) for layer in layers)
    which = "layer takes" if len(layers) == 1 else f"{len(layers)} layers take"
    return f"The costliest {which} {share} of the time: {names}."


def _weights(values: dict[str, Any]) -> str:
    layers = values["layers"]
    which = "this layer holds" if len(layers) == 1 else "these layers hold"
    them = "it" if len(layers) == 1 else "them"
    names = _listed((layer["name"], mebibytes(layer["weight_bytes"])) for layer in layers)
    return (
        f"{mebibytes(values['missing_bytes'])} are missing, and {which} {mebibytes(values['freed_bytes'])} of "
        f"weights: {names}. Shrink {them} by what is missing, or run {them} in another enclave, and the rest fits."
    )


def _batch(values: dict[str, Any]) -> str:
    epc = mebibytes(values["epc_bytes"])
    if values["batch"] == 0:
        return f"No batch fits {epc} without paging, not even one image."
    more = " or more" if values["or_more"] else ""
    each = f": {milliseconds(values['ms_per_image'])} an image" if "ms_per_image" in values else ""
    return f"The largest batch that fits {epc} without paging is {values['batch']}{more}{each}."


def _listed(entries: Any) -> str:
    return ", ".join(f"{printable(name, limit=80)} ({amount})" for name, amount in entries)


_WORDS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "epc": ("Give it more protected memory", _epc),
    "layers": ("Look at these layers first", _layers),
    "weights": ("Shrink or move these weights", _weights),
    "batch": ("Choose the batch", _batch),
}
