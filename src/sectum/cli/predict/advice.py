"""Advice in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sectum.cli.predict.verdict import SLOWER
from sectum.cli.render.figures import milliseconds, percent, times
from sectum.cli.render.untrusted import printable
from sectum.units import format_bytes

if TYPE_CHECKING:
    from sectum.predict.prediction import Advice


def title(advice: Advice) -> str:
    """The advice as a heading."""
    return _WORDS[advice.kind][0]


def sentence(advice: Advice) -> str:
    """The advice with its numbers."""
    return _WORDS[advice.kind][1](advice.values)


def to_json(advice: Advice) -> dict[str, Any]:
    """Give the advice as JSON types, with its sentence."""
    return {**asdict(advice), "text": sentence(advice)}


def _epc(values: dict[str, Any]) -> str:
    latency_ms, native_ms, compute_ms = values["latency_ms"], values["native_ms"], values["compute_ms"]
    text = (
        f"Paging stops at an EPC of {format_bytes(values['epc_bytes'], round_up=True)}: one inference then takes "
        f"{milliseconds(latency_ms)}, {times(values['speedup'])} faster."
    )
    if native_ms <= 0 or latency_ms < SLOWER * native_ms:
        return text
    causes = [
        (compute_ms - native_ms, "for computing inside the enclave"),
        (latency_ms - compute_ms, "for reading weights from its slower memory"),
    ]
    added = " and ".join(f"{milliseconds(more)} {why}" for more, why in causes if more >= 0.01 * native_ms)
    return f"{text} That is {times(latency_ms / native_ms)} the {milliseconds(native_ms)} outside: it adds {added}."


def _layers(values: dict[str, Any]) -> str:
    layers = values["layers"]
    if not layers:
        return "No layer takes any time."
    share = percent(sum(layer["share"] for layer in layers))
    names = _list((layer["name"], milliseconds(layer["ms"])) for layer in layers)
    which = "The most expensive layer takes" if len(layers) == 1 else f"The {len(layers)} most expensive layers take"
    return f"{which} {share} of the time: {names}."


def _weights(values: dict[str, Any]) -> str:
    layers = values["layers"]
    these, them = ("this layer", "the layer") if len(layers) == 1 else ("these layers", "the layers")
    names = _list((layer["name"], format_bytes(layer["weight_bytes"])) for layer in layers)
    return (
        f"Shrink the weights of {these} by {format_bytes(values['missing_bytes'], round_up=True)}, or run {them} in "
        f"another enclave, and the model fits: {names}."
    )


def _batch(values: dict[str, Any]) -> str:
    epc, batch = format_bytes(values["epc_bytes"]), values["batch"]
    if batch == 0:
        return f"No batch size fits in {epc} without paging, not even 1."
    each = f", at {milliseconds(values['ms_per_sample'])} per {values['sample']}" if "sample" in values else ""
    if values["or_more"]:
        return f"A batch of {batch} fits in {epc} without paging{each}; larger batches were not tried."
    return f"The largest batch that fits in {epc} without paging is {batch}{each}."


def _list(entries: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{printable(name, limit=80)} ({amount})" for name, amount in entries)


_WORDS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "epc": ("Increase the EPC", _epc),
    "layers": ("Optimize these layers first", _layers),
    "weights": ("Shrink or move these weights", _weights),
    "batch": ("Choose the batch size", _batch),
}
