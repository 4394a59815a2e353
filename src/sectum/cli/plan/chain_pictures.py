"""Pictures of a plan for several enclaves: the memory of each, and requests on their way through the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sectum.cli.plan.chain_words import describe
from sectum.cli.render.figures import number
from sectum.cli.render.pictures import draw_all, plot
from sectum.units import MIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from sectum.cli.plan.chain import ChainResult
    from sectum.plan.planned_chain import PlannedEnclave

_STAY, _BUFFERS, _ACTIVATIONS, _INPUTS, _LINK = "#8a8f98", "#c8452f", "#3b6fb6", "#4f9d69", "#c9a227"
_REQUESTS = ("#3b6fb6", "#c8452f", "#4f9d69", "#8a5fb0", "#c9a227", "#5b6470")
_EDGE: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.6}


@dataclass(frozen=True, slots=True)
class Visit:
    """When a request is in an enclave, and then on the link to the next one; in milliseconds from the first request."""

    begin_ms: float
    end_ms: float
    arrived_ms: float


def pipeline(enclaves: Sequence[PlannedEnclave], requests: int) -> list[list[Visit]]:
    """When each request is where, if all come at once: by request, and then by enclave."""
    free = [0.0] * len(enclaves)
    link_free = [0.0] * len(enclaves)
    found = []
    for _ in range(requests):
        there = 0.0
        visits = []
        for place, one in enumerate(enclaves):
            begin = max(there, free[place])
            end = begin + one.busy_ms
            free[place] = end
            sent = max(end, link_free[place])
            link_free[place] = sent + one.occupied_ms
            there = sent + one.link_ms
            visits.append(Visit(begin, end, there))
        found.append(visits)
    return found


def draw(result: ChainResult, folder: Path) -> list[Path]:
    """Draw a plan as PNG files into a folder; returns their paths.

    Raises:
        UsageError: matplotlib is not installed, or the folder cannot be written.
    """
    timeline = _pipeline if result.shape.goal == "throughput" else _timeline
    return draw_all(
        {"memory": plot(partial(_memory, result=result)), "timeline": plot(partial(timeline, result=result))}, folder
    )


def _memory(axes: Axes, *, result: ChainResult) -> None:
    """What lies in the EPC of each enclave."""
    layouts = [one.layout for one in result.planned.enclaves]
    bottom = [0.0] * len(layouts)
    for label, colour, values in (
        ("weights that stay", _STAY, [one.resident_weight_bytes for one in layouts]),
        ("buffers of streamed weights", _BUFFERS, [sum(one.buffer_bytes) for one in layouts]),
        ("inputs, or what is received", _INPUTS, [one.input_bytes for one in layouts]),
        ("activations", _ACTIVATIONS, [one.arena_bytes for one in layouts]),
    ):
        mib = [value / MIB for value in values]
        axes.bar(range(len(layouts)), mib, width=0.7, bottom=bottom, color=colour, label=label)
        bottom = [low + value for low, value in zip(bottom, mib, strict=True)]
    epcs = [one.epc_bytes / MIB for one in result.shape.enclaves]
    for place, epc in enumerate(epcs):
        axes.plot([place - 0.45, place + 0.45], [epc, epc], color="black", linewidth=1.4)
    axes.annotate("EPC", (len(layouts) - 0.55, epcs[-1]), ha="right", va="bottom")
    weights = sum(stage.weight_bytes for stage in result.planned.stages) / MIB
    axes.set(
        xlabel="enclave", ylabel="MiB in the enclave", xticks=range(len(layouts)), ylim=(0, 1.3 * max(epcs)),
        title=f"{result.source.name}: {number(weights)} MiB of weights in {len(layouts)} enclaves (predicted)",
    )  # fmt: skip
    axes.legend(loc="upper left", frameon=False, ncols=2)


def _lanes(axes: Axes, result: ChainResult) -> None:
    count = len(result.planned.enclaves)
    axes.set(
        yticks=range(count), yticklabels=[f"enclave {place}" for place in range(count)], ylim=(count - 0.4, -0.6),
    )  # fmt: skip


def _timeline(axes: Axes, *, result: ChainResult) -> None:
    """One request on its way: what each enclave does, and each link."""
    planned = result.planned
    (visits,) = pipeline(planned.enclaves, 1)
    seen: set[str] = set()

    def bar(place: float, begin: float, width: float, colour: str, label: str, height: float = 0.7) -> None:
        shown: dict[str, Any] = {"label": label} if label not in seen and width else {}
        seen.add(label if width else "")
        axes.broken_barh([(begin, width)], (place - height / 2, height), facecolor=colour, **shown)

    for place, (one, visit) in enumerate(zip(planned.enclaves, visits, strict=True)):
        start = visit.begin_ms + one.opening_ms
        bar(place, visit.begin_ms, one.opening_ms, _INPUTS, "open what was received")
        for stage in one.by_stage:
            if (opening := stage.times.opening) is not None:
                bar(place, start + opening.begin_ms, opening.ms, _BUFFERS, "open weights")
            computing = stage.times.computing
            bar(place, start + computing.begin_ms, computing.ms, _ACTIVATIONS, "compute", 0.45)
        bar(place, visit.end_ms - one.sealing_ms, one.sealing_ms, _STAY, "seal what is sent")
        bar(place + 0.5, visit.end_ms, one.link_ms, _LINK, f"link: {describe(result.shape.link)}", 0.2)
    _lanes(axes, result)
    axes.axvline(planned.native_ms, color="black", linewidth=1.0, linestyle="--",
                 label=f"outside an enclave, {number(planned.native_ms)} ms")  # fmt: skip
    axes.set(
        xlim=(0, 1.04 * max(planned.latency_ms, planned.native_ms)),
        xlabel="ms from the start of the request (predicted)",
        title=f"{result.source.name}: one request takes {number(planned.latency_ms)} ms in {len(planned.enclaves)} "
              f"enclaves of {format_bytes(result.plan.epc_bytes)}",
    )  # fmt: skip
    axes.legend(loc="lower left", frameon=True, framealpha=0.9)


def _pipeline(axes: Axes, *, result: ChainResult) -> None:
    """Requests that follow each other; the slowest enclave is never idle."""
    planned = result.planned
    requests = len(planned.enclaves) + 2
    visits = pipeline(planned.enclaves, requests)
    for request, places in enumerate(visits):
        colour = _REQUESTS[request % len(_REQUESTS)]
        for place, visit in enumerate(places):
            axes.broken_barh([(visit.begin_ms, visit.end_ms - visit.begin_ms)], (place - 0.35, 0.7),
                             facecolor=colour, **_EDGE)  # fmt: skip
            if place + 1 < len(places):
                after = places[place + 1].begin_ms
                axes.plot([visit.end_ms, min(visit.arrived_ms, after)], [place + 0.35, place + 0.65], color=colour,
                          linewidth=1.0)  # fmt: skip
            if request == 0 or place == 0:
                axes.annotate(str(request + 1), ((visit.begin_ms + visit.end_ms) / 2, place), ha="center", va="center",
                              color="white", fontsize=8)  # fmt: skip
    slowest = max(range(len(planned.enclaves)), key=lambda place: planned.enclaves[place].busy_ms)
    _lanes(axes, result)
    ends = [places[-1].end_ms for places in visits[-2:]]
    bottom = len(planned.enclaves) - 0.45
    axes.annotate("", (ends[1], bottom), (ends[0], bottom), arrowprops={"arrowstyle": "|-|", "mutation_scale": 3})
    axes.annotate(f"{number(planned.pipeline_ms)} ms ", (ends[0], bottom), ha="right", va="center")
    axes.set(
        ylim=(len(planned.enclaves) - 0.2, -0.6),
        xlim=(0, 1.03 * ends[1]),
        xlabel=f"ms from the first request (predicted); enclave {slowest} is the slowest",
        title=f"{result.source.name}: a result every {number(planned.pipeline_ms)} ms in {len(planned.enclaves)} "
              f"enclaves of {format_bytes(result.plan.epc_bytes)}",
    )  # fmt: skip
