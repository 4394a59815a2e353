"""A plan for several enclaves in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sectum.cli.plan.words import print_stages, rows_of_stages
from sectum.cli.render.figures import count, interval, milliseconds, number, plural, times
from sectum.cli.render.show import paragraph, rows, say
from sectum.cli.render.untrusted import printable
from sectum.units import MIB, format_bytes

if TYPE_CHECKING:
    from sectum.cli.plan.chain import ChainResult
    from sectum.enclave.runners.relay import Pace

_HEADER = ("#", "busy ms", "opening", "link", "weights MiB", "resident", "sends", "what")


def show(result: ChainResult, *, stages: bool) -> None:
    """Print a plan for several enclaves."""
    paragraph(verdict(result))
    say("")
    rows(facts(result), right=(1,))
    say("")
    rows(enclave_rows(result), right=range(7), header=_HEADER)
    if stages:
        print_stages(stage_rows(result))


def verdict(result: ChainResult) -> str:
    """What the plan gains, in a sentence or two."""
    planned, name = result.planned, result.source.name
    enclaves = len(planned.enclaves)
    where = f"{plural(enclaves, 'enclave')} of {format_bytes(result.plan.epc_bytes)}"
    streamed = sum(1 for one in planned.enclaves if one.opened_bytes)
    weights = "All weights stay in the enclaves." if not streamed else f"{count(streamed)} of them stream weights."
    if result.shape.goal == "throughput":
        return (
            f"{name} gives a result every {milliseconds(planned.pipeline_ms)} in {where} with this plan, "
            f"{times(planned.unplanned_ms / planned.pipeline_ms)} as often as one enclave without a plan. One request "
            f"takes about {milliseconds(planned.latency_ms)}. {weights}"
        )
    return (
        f"{name} takes about {milliseconds(planned.latency_ms)} in {where} with this plan, "
        f"{times(planned.unplanned_ms / planned.latency_ms)} faster than the {milliseconds(planned.unplanned_ms)} in "
        f"one without a plan, and {times(planned.latency_ms / planned.native_ms)} as long as outside an enclave. "
        f"{weights}"
    )


def facts(result: ChainResult) -> list[tuple[str, str, str]]:
    """The plan's numbers."""
    planned, enclaves = result.planned, result.planned.enclaves
    stages = [one for enclave in enclaves for one in enclave.by_stage]
    opening_ms = sum(one.times.opening.ms for one in stages if one.times.opening is not None)
    paging_ms = sum(one.paging_ms for one in stages)
    crossing = sum(one.sent_bytes for one in enclaves)
    sealing_ms = sum(one.sealing_ms + one.opening_ms for one in enclaves)
    threads = plural(result.plan.threads, "thread")
    return [
        ("latency", milliseconds(planned.latency_ms),
         f"predicted; {interval(planned.interval_ms)}; {threads} in each enclave"),
        ("  computing", milliseconds(sum(one.times.computing.ms for one in stages)), "predicted"),
        ("  opening", milliseconds(opening_ms), f"predicted; {format_bytes(planned.opened_bytes)} of weights"),
        ("  paging", milliseconds(paging_ms), "predicted"),
        ("  sealing", milliseconds(sealing_ms), f"predicted; {format_bytes(crossing)} cross, sealed and opened"),
        ("  links", milliseconds(sum(one.link_ms for one in enclaves)), f"predicted; {describe(result.shape.link)}"),
        ("between results", milliseconds(planned.pipeline_ms),
         f"predicted; {number(1e3 / planned.pipeline_ms)} requests per second when they follow each other"),
        ("without a plan", milliseconds(planned.unplanned_ms),
         f"predicted; in one enclave; {interval(planned.unplanned_interval_ms)}"),
        ("outside an enclave", milliseconds(planned.native_ms), "predicted"),
        ("EPC", format_bytes(result.plan.epc_bytes), f"given; of each enclave; {result.plan.enclave}"),
    ]  # fmt: skip


def describe(link: Pace) -> str:
    """A link in words."""
    bits, unit = (link.bits_per_s / 1e9, "Gbps") if link.bits_per_s >= 1e9 else (link.bits_per_s / 1e6, "Mbps")
    return f"{bits:g} {unit}, {milliseconds(link.delay_ms)} of delay"


def enclave_rows(result: ChainResult) -> list[tuple[str, ...]]:
    """A row for each enclave."""
    found: list[tuple[str, ...]] = []
    for place, one in enumerate(result.planned.enclaves):
        opening_ms = sum(stage.times.opening.ms for stage in one.by_stage if stage.times.opening is not None)
        names = result.graph.layer_names[one.stages[0].first : one.stages[-1].last + 1]
        what = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        found.append(
            (
                str(place),
                number(one.busy_ms),
                number(opening_ms),
                number(one.link_ms),
                number(sum(stage.weight_bytes for stage in one.stages) / MIB),
                number(one.layout.working_set_bytes / MIB),
                format_bytes(one.sent_bytes) if one.sent_bytes else "results",
                printable(what, limit=80),
            )
        )
    return found


def stage_rows(result: ChainResult) -> list[tuple[str, ...]]:
    """A row for each stage of each enclave."""
    found: list[tuple[str, ...]] = []
    for one in result.planned.enclaves:
        found += rows_of_stages(one.stages, one.by_stage, result.graph.layer_names, len(found))
    return found
