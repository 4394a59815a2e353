"""Pictures of a plan: its memory over the stages, its timeline, and latency against the EPC with and without plans."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sectum.cli.render.figures import number
from sectum.cli.render.pictures import draw_all, plot
from sectum.units import MIB, format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sectum.cli.plan.planning import PlanResult

_STAY, _BUFFERS, _ACTIVATIONS, _INPUTS = "#8a8f98", "#c8452f", "#3b6fb6", "#4f9d69"
_EVERY = 3
"""Of the sizes that paging is drawn at, each third one is planned for."""
_EDGE: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.3}


def draw(result: PlanResult, folder: Path) -> list[Path]:
    """Draw a plan as PNG files into a folder; returns their paths.

    Raises:
        UsageError: matplotlib is not installed, or the folder cannot be written.
    """
    return draw_all(
        {
            "memory": plot(partial(_memory, result=result)),
            "timeline": plot(partial(_timeline, result=result)),
            "epc": plot(partial(_epc, result=result)),
        },
        folder,
    )


def _memory(axes: Axes, *, result: PlanResult) -> None:
    """What lies in the EPC while each stage runs."""
    layout = result.planned.layout
    stages = range(len(result.planned.stages))
    bottom = [0.0] * len(stages)
    for label, colour, values in (
        ("weights that stay", _STAY, [layout.resident_weight_bytes] * len(stages)),
        ("buffers of streamed weights", _BUFFERS, [sum(layout.buffer_bytes)] * len(stages)),
        ("inputs", _INPUTS, [layout.input_bytes] * len(stages)),
        ("activations", _ACTIVATIONS, list(layout.activation_bytes)),
    ):
        mib = [value / MIB for value in values]
        axes.bar(stages, mib, width=1.0, bottom=bottom, color=colour, label=label)
        bottom = [low + value for low, value in zip(bottom, mib, strict=True)]
    weights = sum(stage.weight_bytes for stage in result.planned.stages) / MIB
    axes.axhline(result.plan.epc_bytes / MIB, color="black", linewidth=1.2)
    axes.annotate("EPC", (len(stages) - 0.5, result.plan.epc_bytes / MIB), ha="right", va="bottom")
    axes.set(
        xlabel="stage", ylabel="MiB in the enclave", xlim=(-0.5, len(stages) - 0.5),
        title=f"{result.source.name}: {number(weights)} MiB of weights run in {number(max(bottom))} MiB (predicted)",
    )  # fmt: skip
    axes.legend(loc="lower left", frameon=True, framealpha=0.9)


def _timeline(axes: Axes, *, result: PlanResult) -> None:
    """When each stage is opened and computed."""
    planned = result.planned
    for one in planned.by_stage:
        if one.times.opening is not None:
            opening = one.times.opening
            axes.broken_barh([(opening.begin_ms, opening.ms)], (0.6, 0.8), facecolor=_BUFFERS, **_EDGE)
        computing = one.times.computing
        axes.broken_barh([(computing.begin_ms, computing.ms)], (-0.4, 0.8), facecolor=_ACTIVATIONS, **_EDGE)
    axes.axvline(planned.native_ms, color="black", linewidth=1.0, linestyle="--")
    axes.annotate(f" outside an enclave, {number(planned.native_ms)} ms", (planned.native_ms, 1.75), va="center")
    axes.set(
        yticks=[0, 1], yticklabels=["compute", "open"], ylim=(-0.6, 2.0), xlim=(0, 1.08 * planned.latency_ms),
        xlabel="ms from the start of the inference (predicted)",
        title=f"{result.source.name} in {format_bytes(result.plan.epc_bytes)}: {number(planned.latency_ms)} ms with "
              f"the plan, {number(planned.unplanned_ms)} ms without",
    )  # fmt: skip


def _epc(axes: Axes, *, result: PlanResult) -> None:
    """Latency against the EPC, with the best plan for each size and without a plan."""
    from sectum.cli.predict.predicting import load_profile
    from sectum.plan.epc_curve import epc_sizes, latency_curve
    from sectum.plan.latency import PlannedLatency
    from sectum.predict import load_predictor

    models, plan, graph = PlannedLatency(load_predictor()), result.plan, result.source.graph
    profile = load_profile(plan.enclave, plan.epc_bytes)
    working_set = models.unplanned.latency(graph, profile, threads=plan.threads).working_set_bytes
    sizes = epc_sizes(working_set, plan.epc_bytes)
    few = sorted({*sizes[::_EVERY], plan.epc_bytes, *(size for size in sizes if size > 0.9 * working_set)})
    curves = (
        ("paged", _BUFFERS, latency_curve(models.unplanned, graph, profile, sizes, threads=plan.threads)),
        ("with the best plan", _ACTIVATIONS, latency_curve(models, graph, profile, few, threads=plan.threads)),
    )
    for label, colour, curve in curves:
        mib = [point.epc_bytes / MIB for point in curve]
        axes.fill_between(mib, [p.low for p in curve], [p.high for p in curve], color=colour, alpha=0.2, linewidth=0)
        axes.plot(mib, [point.latency_ms for point in curve], color=colour, linewidth=2, label=label)
        here = next(point for point in curve if point.epc_bytes == plan.epc_bytes)
        axes.plot([here.epc_bytes / MIB], [here.latency_ms], "o", color=colour)
        axes.annotate(f"{number(here.latency_ms)} ms", (here.epc_bytes / MIB, here.latency_ms), xytext=(6, 6),
                      textcoords="offset points", color=colour, fontweight="bold")  # fmt: skip
    native_ms = result.planned.native_ms
    axes.axhline(native_ms, color="black", linewidth=1.0, linestyle="--", label="outside an enclave")
    axes.set_xscale("log", base=2)
    ticks = [2**power for power in range(20) if sizes[0] <= 2**power * MIB <= sizes[-1]]
    axes.set(
        xticks=ticks, xticklabels=[format_bytes(tick * MIB) for tick in ticks], xlabel="EPC", ylim=(0, None),
        xlim=(sizes[0] / MIB, sizes[-1] / MIB), ylabel="ms for one inference (predicted, 90 % interval)",
        title=f"{result.source.name} in {format_bytes(plan.epc_bytes)}: {number(result.planned.latency_ms)} ms with "
              f"the plan, {number(result.planned.unplanned_ms)} ms without",
    )  # fmt: skip
    axes.minorticks_off()
    axes.legend(loc="best", frameon=False)
