"""Pictures of the study."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sectum.cli.render.pictures import draw_all, plot
from sectum.errors import UsageError
from sectum.lab.study.cases import Sweep
from sectum.lab.study.fits import grouped
from sectum.lab.study.points import Study
from sectum.units import MIB

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = dict[str, Any]
_COLOURS = ("#3b6fb6", "#c8452f", "#4f9d69", "#8a5fa8", "#c98a1b", "#555555")
_POLICIES = {"second-chance": "#3b6fb6", "fifo": "#c98a1b", "lru": "#555555"}
_ORDERS = [
    ("weights", "cycle"), ("weights", "blocks"), ("weights", "between"), ("weights", "back"), ("maps", "back"),
    ("maps", "cycle"),
]  # fmt: skip


def draw(study: Study, observed: dict[str, Numbers | None], folder: Path) -> list[Path]:
    """Draw as PNG files into a folder what was measured; returns their paths.

    Raises:
        UsageError: matplotlib is not installed, the folder cannot be written, or there is nothing to draw.
    """
    pictures: dict[str, Callable[[Figure], None]] = {}
    if observed.get("cliff"):
        pictures["latency"] = plot(partial(_latency, study=study))
    if curves := observed.get("reuse"):
        pictures["loads"] = partial(_loads, curves=curves["curves"])
    if cost := observed.get("page-cost"):
        pictures["page-cost"] = plot(partial(_page_cost, study=study, cost=cost))
    if added := observed.get("addition"):
        pictures["addition"] = plot(partial(_addition, study=study, added=added))
    if observed.get("slowdown"):
        pictures["slowdown"] = plot(partial(_slowdown, study=study))
    if batches := observed.get("batch"):
        pictures["batch"] = plot(partial(_batch, kinds=batches["kinds"]))
    if not pictures:
        raise UsageError("there is nothing to draw: no sweep of this study was measured so far")
    return draw_all(pictures, folder)


def _latency(axes: Axes, *, study: Study) -> None:
    """Computation held, memory varied, under each EPC."""
    points = [point for point in study.of(Sweep.MEMORY) if point.epc_bytes]
    for colour, epc_bytes in zip(_COLOURS, sorted({point.epc_bytes or 0 for point in points}), strict=False):
        chosen = sorted((p for p in points if p.epc_bytes == epc_bytes), key=lambda p: p.case.working_set_bytes)
        mib = [point.case.working_set_bytes / MIB for point in chosen]
        axes.plot(
            mib, [p.latency_ms for p in chosen],
            marker="o", markersize=3.5, linewidth=1.2, color=colour, label=f"{epc_bytes / MIB:g} MiB of EPC",
        )  # fmt: skip
        axes.axvline(epc_bytes / MIB, color=colour, linewidth=0.8, linestyle=":")
    native = sorted({(p.case.working_set_bytes / MIB, p.case.native_ms) for p in points})
    axes.plot(*zip(*native, strict=True), color="black", linewidth=0.8, linestyle="--", label="native")
    axes.set(
        xscale="log", yscale="log", xlabel="working set, MiB (dotted: the EPC)", ylabel="latency, ms",
        title="Latency by working set, at equal computation (measured)",
    )  # fmt: skip
    _plain_ticks(axes, [8, 12, 16, 24, 32, 48, 64, 93, 128], [2, 5, 10, 20, 50, 100, 200, 500, 1000])
    axes.legend(frameon=False)


def _loads(figure: Figure, *, curves: list[Numbers]) -> None:
    """Loads against working set / EPC: a plot for each network, a line for each policy."""
    networks = sorted({(curve["kind"], curve["order"]) for curve in curves}, key=_ORDERS.index)
    columns = min(3, len(networks))
    grid = figure.subplots(-(-len(networks) // columns), columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(networks) :]:
        axes.set_visible(False)
    for axes, network in zip(grid.flat, networks, strict=False):
        for curve in (curve for curve in curves if (curve["kind"], curve["order"]) == network):
            policy = curve["policy"]
            axes.plot(
                curve["working_set_over_epc"], curve["loaded_share"],
                color=_POLICIES[policy], linewidth=1.3, linestyle=":" if curve["simulated"] else "-",
                marker="" if curve["simulated"] else "o", markersize=2.5,
                label=policy + (" (simulated)" if curve["simulated"] else ""),
            )  # fmt: skip
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set(xscale="log", ylim=(0, None), title=f"{network[0]}, {network[1]}")
        axes.title.set_size("medium")
        _plain_ticks(axes, [0.5, 1, 2, 3], None)
    grid[0, 0].legend(frameon=False, fontsize="small", loc="center right")
    figure.suptitle("Pages loaded in an inference, by order of access and replacement policy")
    figure.supxlabel("working set / EPC", fontsize="medium")
    figure.supylabel("pages loaded / pages of the working set", fontsize="medium")


def _page_cost(axes: Axes, *, study: Study, cost: Numbers) -> None:
    """What the limit costs against pages loaded, of all runs that page."""
    points = [point for point in study.of() if point.is_over_committed]
    by_sweep = sorted(grouped(points, lambda point: f"sweep of {point.case.sweep}").items())
    for colour, (label, chosen) in zip(_COLOURS, by_sweep, strict=False):
        axes.scatter([p.loads for p in chosen], [p.extra_ms for p in chosen], s=14, color=colour, alpha=0.7,
                     linewidths=0, label=label)  # fmt: skip
    ends = [min(point.loads for point in points), max(point.loads for point in points)]
    axes.plot(ends, [loads * cost["load_us"] / 1e3 for loads in ends], color="black", linewidth=0.8,
              label=f"median: {cost['load_us']:.1f} us a page")  # fmt: skip
    axes.set(
        xscale="log", yscale="log", xlabel="pages loaded in an inference",
        ylabel="latency minus latency without a limit, ms",
        title="Latency that the EPC limit adds, by pages loaded (measured)",
    )  # fmt: skip
    _plain_ticks(axes, [1000, 2000, 5000, 10_000, 20_000, 50_000], [10, 20, 50, 100, 200, 500, 1000])
    axes.legend(frameon=False)


def _addition(axes: Axes, *, study: Study, added: Numbers) -> None:
    """Native latency and page costs stacked, beside the measured latency."""
    points = [p for p in study.of(Sweep.COMPUTATION) if p.is_over_committed]
    points.sort(key=lambda p: (p.case.kind != "weights", round(20 * p.working_set_over_epc), p.case.flops))
    places = range(len(points))
    native = [point.case.native_ms for point in points]
    paging = [point.paging_ms(added["load_us"], added["minor_fault_us"]) for point in points]
    axes.bar(places, native, color=_COLOURS[0], label="native latency")
    axes.bar(places, paging, bottom=native, color=_COLOURS[1], alpha=0.75, label="page costs fitted to other sweeps")
    axes.plot(places, [p.latency_ms for p in points], "D", color="black", markersize=4, label="measured in the enclave")
    axes.set_xticks(places, [f"{p.case.flops / 1e9:.2g}" for p in points], fontsize="x-small")
    groups: dict[str, list[int]] = {}
    for place, point in enumerate(points):
        groups.setdefault(f"{point.case.kind}, working set\n{point.working_set_over_epc:.2f} x EPC", []).append(place)
    for label, members in groups.items():
        axes.text(
            sum(members) / len(members), -0.07, label,
            transform=axes.get_xaxis_transform(), ha="center", va="top", fontsize="small",
        )  # fmt: skip
    axes.set(
        ylabel="latency, ms (below the bars: GFLOP)", ylim=(0, 1.3 * max(point.latency_ms for point in points)),
        title=f"Native latency plus page costs: off by {100 * added['median_error']:.0f} % in the median",
    )  # fmt: skip
    axes.legend(frameon=False)


def _slowdown(axes: Axes, *, study: Study) -> None:
    """The ratio to native latency against arithmetic intensity."""
    points = [point for point in study.of(Sweep.COMPUTATION) if point.epc_bytes]
    groups = grouped(points, lambda point: (str(point.case.kind), round(point.working_set_over_epc * 20) / 20))
    for (kind, ratio), chosen in sorted(groups.items(), reverse=True):
        chosen.sort(key=lambda p: p.case.flops)
        axes.plot(
            [p.case.flops / p.case.working_set_bytes for p in chosen], [p.slowdown for p in chosen],
            marker="o" if kind == "weights" else "s", markersize=4, linewidth=1.2,
            linestyle="-" if kind == "weights" else "--",
            color=_COLOURS[0] if ratio < 1 else _COLOURS[4] if ratio < 1.5 else _COLOURS[1],
            label=f"{kind}, working set / EPC {ratio:g}",
        )  # fmt: skip
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(
        xscale="log", yscale="log", xlabel="FLOP per byte of the working set", ylabel="latency / native latency",
        title="Slowdown by arithmetic intensity (measured)",
    )  # fmt: skip
    _plain_ticks(axes, [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500], [1, 2, 5, 10, 20, 50, 100])
    axes.legend(frameon=False, fontsize="small")


def _batch(axes: Axes, *, kinds: dict[str, Numbers]) -> None:
    """Working sets against images, stacked: what stays and what grows."""
    for colour, (kind, of) in zip(_COLOURS, sorted(kinds.items(), reverse=True), strict=False):
        axes.plot(of["images"], of["working_set_mib"], marker="o", markersize=4, linewidth=1.2, color=colour,
                  label=f"{kind}: working set")  # fmt: skip
        if of["weights_mib"] > 1:
            axes.axhline(of["weights_mib"], color=colour, linewidth=0.8, linestyle=":", label=f"{kind}: weights alone")
    axes.set(
        xlabel="images in an inference", ylabel="MiB", title="Working set by batch size (measured)", ylim=(0, None)
    )
    axes.set_xticks(next(iter(kinds.values()))["images"])
    axes.legend(frameon=False)


def _plain_ticks(axes: Axes, x: list[float] | None, y: list[float] | None) -> None:
    """Write numbers, not powers, at these places."""
    if x is not None:
        low, high = axes.get_xlim()
        axes.set_xticks([tick for tick in x if low <= tick <= high])
    if y is not None:
        low, high = axes.get_ylim()
        axes.set_yticks([tick for tick in y if low <= tick <= high])
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.minorticks_off()
