"""A plan in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sectum.cli.render.figures import count, interval, milliseconds, number, plural, times
from sectum.cli.render.show import paragraph, rows, say
from sectum.cli.render.untrusted import printable
from sectum.units import MIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sectum.cli.plan.planning import PlanResult
    from sectum.plan.planned import StagePrediction
    from sectum.plan.stages import PlannedStage


def show(result: PlanResult, *, stages: bool) -> None:
    """Print a plan; with ``stages`` also what each takes."""
    paragraph(verdict(result))
    say("")
    rows(facts(result), right=(1,))
    if stages:
        planned = result.planned
        print_stages(rows_of_stages(planned.stages, planned.by_stage, result.graph.layer_names))


def verdict(result: PlanResult) -> str:
    """What the plan gains, in a sentence or two."""
    planned, name = result.planned, result.source.name
    epc = format_bytes(result.plan.epc_bytes)
    if planned.as_it_is:
        fits = planned.unplanned_ms <= 1.02 * planned.native_ms
        why = "it fits" if fits else "no plan is faster"
        return f"{name} needs no plan in {epc}: {why}. One inference takes about {milliseconds(planned.latency_ms)}."
    streamed = sum(1 for stage in planned.stages if stage.streamed)
    divided = sum(1 for stage in planned.stages if stage.division is not None)
    strips = f" {count(divided)} of them {'runs' if divided == 1 else 'run'} strip by strip." if divided else ""
    return (
        f"{name} takes about {milliseconds(planned.latency_ms)} in {epc} with this plan, "
        f"{times(planned.unplanned_ms / planned.latency_ms)} faster than the {milliseconds(planned.unplanned_ms)} "
        f"without one, and {times(planned.latency_ms / planned.native_ms)} as long as outside an enclave. It runs in "
        f"{plural(len(planned.stages), 'stage')}; the weights of {count(streamed)} are streamed.{strips}"
    )


def facts(result: PlanResult) -> list[tuple[str, str, str]]:
    """The plan's numbers."""
    planned, layout = result.planned, result.planned.layout
    opening_ms = sum(one.times.opening.ms for one in planned.by_stage if one.times.opening is not None)
    computing_ms = sum(one.times.computing.ms for one in planned.by_stage)
    paging_ms = sum(one.paging_ms for one in planned.by_stage)
    ahead = " by a thread of its own, ahead" if planned.buffers > 1 else ""
    threads = plural(result.plan.threads, "thread")
    found = [
        ("latency", milliseconds(planned.latency_ms), f"predicted; {interval(planned.interval_ms)}; {threads}"),
    ]
    if result.plan.batch is not None and result.plan.batch > 1:
        found.append(("  per sample", milliseconds(result.ms_per_sample), f"predicted; batch {result.plan.batch}"))
    if not planned.as_it_is:
        found += [
            ("  computing", milliseconds(computing_ms), "predicted"),
            (
                "  opening",
                milliseconds(opening_ms),
                f"predicted; {format_bytes(planned.opened_bytes)} of weights{ahead}",
            ),
            ("  paging", milliseconds(paging_ms), "predicted"),
        ]
    unplanned = f"predicted; {interval(planned.unplanned_interval_ms)}"
    found += [
        ("without a plan", milliseconds(planned.unplanned_ms), unplanned),
        ("outside an enclave", milliseconds(planned.native_ms), "predicted"),
    ]
    if not planned.as_it_is:
        sizes = " and ".join(format_bytes(size) for size in layout.buffer_bytes)
        parts = (
            f"{sizes} of buffers, {format_bytes(layout.resident_weight_bytes)} of weights that stay, "
            f"{format_bytes(layout.arena_bytes)} of activations"
        )
        found.append(("working set", format_bytes(layout.working_set_bytes), f"predicted; {parts}"))
    found.append(("EPC", format_bytes(result.plan.epc_bytes), f"given; {result.plan.enclave}"))
    return found


def print_stages(entries: Iterable[Sequence[str]]) -> None:
    """Print the rows of stages."""
    say("")
    header = ("#", "opening", "computing", "paging", "weights MiB", "operators", "what")
    rows(entries, right=range(6), header=header)


def rows_of_stages(
    stages: Sequence[PlannedStage], by_stage: Sequence[StagePrediction], layer_names: Sequence[str], start: int = 0
) -> list[tuple[str, ...]]:
    """A row for each of some stages, numbered from a start."""
    found: list[tuple[str, ...]] = []
    for index, (stage, one) in enumerate(zip(stages, by_stage, strict=True), start):
        names = layer_names[stage.first : stage.last + 1]
        name = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        part = "" if stage.channels is None else f", channels {stage.channels[0]} to {stage.channels[1]}"
        if stage.division is not None:
            part = f", {len(stage.division.strips)} strips of {plural(stage.division.rows, 'row')}"
        opening = one.times.opening
        found.append(
            (
                str(index),
                "stays" if opening is None else number(opening.ms),
                number(one.times.computing.ms),
                number(one.paging_ms),
                number(stage.weight_bytes / MIB),
                count(len(names)),
                printable(f"{name}{part}", limit=100),
            )
        )
    return found
