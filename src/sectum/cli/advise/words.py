"""Advice on a latency bound in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from sectum.cli.render.command_line import typed
from sectum.cli.render.figures import milliseconds, number, percent, times
from sectum.cli.render.untrusted import printable
from sectum.plan.advising import BATCH, ENCLAVES, EPC, KINDS, PLAN, RESOLUTION, THREADS, WIDTH
from sectum.units import format_bytes

if TYPE_CHECKING:
    from sectum.cli.advise.answering import Answer
    from sectum.plan.advising import Choice, Setup

_CHANGES: dict[str, Callable[[Any, Any], str]] = {
    PLAN: lambda _was, _now: "a plan",
    BATCH: lambda was, now: f"a batch of {now} instead of {was}",
    THREADS: lambda was, now: f"{now} {'thread' if now == 1 else 'threads'} instead of {was}",
    EPC: lambda was, now: f"an EPC of {format_bytes(now)} instead of {format_bytes(was)}",
    ENCLAVES: lambda was, now: f"{now} enclaves instead of {was}",
    RESOLUTION: lambda was, now: f"images of {now}x{now} instead of {was}x{was}",
    WIDTH: lambda _was, now: f"{percent(now)} of the width",
}


def changes(setup: Setup, base: Setup) -> str:
    """What differs, the cheapest first."""
    texts = [_CHANGES[kind](getattr(base, kind), getattr(setup, kind)) for kind in setup.changed(base)]
    *others, last = texts
    return f"{', '.join(others)} and {last}" if others else last


def verdict(answer: Answer) -> str:
    """Whether the bound is met, and by what, in two or three sentences."""
    advised, base = answer.advised, answer.question.base
    now = advised.now.estimate
    where = "" if base.epc_bytes is None else f" in {format_bytes(base.epc_bytes)}"
    name = printable(answer.source.name, limit=60)
    takes = f"{name} takes about {milliseconds(now.latency_ms)}{where}"
    bound = milliseconds(answer.bound_ms)
    if advised.meets:
        return f"{takes}, which meets the bound of {bound} already. Nothing has to change."
    if now.latency_ms <= answer.bound_ms:
        takes = f"{takes}, and may take up to {milliseconds(now.interval_ms.high)}"
    if advised.choices:
        first = advised.choices[0]
        return (
            f"{takes}; the bound is {bound}. The cheapest change that meets it is {changes(first.setup, base)}: about "
            f"{milliseconds(first.estimate.latency_ms)}, {_faster(answer, first)}."
        )
    nothing = f"{takes}, and nothing that was tried meets the bound of {bound}."
    if advised.nearest is None:
        return nothing
    nearest = advised.nearest
    high = milliseconds(nearest.estimate.interval_ms.high)
    upper = f", and up to {high}" if nearest.estimate.latency_ms <= answer.bound_ms else ""
    return (
        f"{nothing} The nearest is {changes(nearest.setup, base)}: about "
        f"{milliseconds(nearest.estimate.latency_ms)}{upper}, {_faster(answer, nearest)}."
    )


def _faster(answer: Answer, choice: Choice) -> str:
    return f"{times(answer.speedup(choice))} faster"


def header_of(answer: Answer) -> tuple[str, ...]:
    """Titles of the columns of `rows_of`."""
    per_sample = ("per sample",) if answer.question.base.batch > 1 else ()
    return ("latency", *per_sample, "90 % interval", "faster", *(("measured",) if answer.measured else ()), "change")


def rows_of(answer: Answer) -> Iterator[tuple[str, ...]]:
    """A row for each choice."""
    batches = answer.question.base.batch > 1
    for position, choice in enumerate(answer.shown):
        estimate = choice.estimate
        measured = answer.measured.get(position)
        yield (
            milliseconds(estimate.latency_ms),
            *([milliseconds(estimate.latency_ms / choice.setup.batch)] if batches else []),
            f"{number(estimate.interval_ms.low)} to {milliseconds(estimate.interval_ms.high)}",
            times(answer.speedup(choice)),
            *([] if not answer.measured else ["" if measured is None else milliseconds(measured["latency_ms"])]),
            changes(choice.setup, answer.question.base),
        )


def tried(answer: Answer) -> str:
    """What was tried, and how far."""
    question, base = answer.question, answer.question.base
    limits = {
        BATCH: lambda values: f"a batch of {values[-1]}",
        THREADS: lambda values: f"{values[-1]} threads",
        ENCLAVES: lambda values: f"{values[-1]} enclaves",
        RESOLUTION: lambda values: f"images of {values[-1]}x{values[-1]}",
        WIDTH: lambda values: f"{percent(values[-1])} of the width",
    }
    found = []
    for kind in KINDS:
        if kind == PLAN and question.values.get(PLAN):
            found.append("a plan")
        elif kind == EPC and base.epc_bytes is not None:
            found.append("an EPC that holds the working set")
        elif question.values.get(kind):
            found.append(limits[kind](question.values[kind]))
    if not found:
        return "There was nothing to try: give --most-threads, or an --enclave with an EPC."
    free = [name for kind, name in ((PLAN, "a plan"), (THREADS, "threads")) if question.values.get(kind)]
    together = f"; {' and '.join(free)} also together with one more of these" if free and len(found) > 1 else ""
    return f"Tried: {', '.join(found)}{together}."


def command(answer: Answer, choice: Choice) -> str:
    """How to predict or plan what a choice is."""
    setup, source = choice.setup, answer.source
    changed = setup.changed(answer.question.base)
    model, before, batch, inputs = source.text, "", source.batch, source.inputs
    if WIDTH in changed:
        name, model = source.network.name, f"{source.network.name}_w{setup.width:g}.onnx"
        resolution = f" --resolution {setup.resolution}" if inputs else ""
        before = f"sectum zoo export {name} --width {setup.width:g}{resolution} -o {model} && "
        batch, inputs = setup.batch, {}
    elif RESOLUTION in changed or (inputs and BATCH in changed):
        batch, inputs = None, {"input": (setup.batch, 3, setup.resolution or 0, setup.resolution or 0)}
    elif BATCH in changed:
        batch = setup.batch
    return before + typed(
        "plan" if setup.planned or setup.enclaves > 1 else "predict",
        model,
        enclave=answer.enclave,
        epc_bytes=setup.epc_bytes,
        batch=batch,
        inputs=inputs,
        threads=setup.threads,
        enclaves=setup.enclaves,
        link=answer.link,
    )
