"""Draws HETEE's figures 7a and 8a with our measurements beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sectum.cli.render.output import check_writable
from sectum.cli.render.pictures import png
from sectum.extras import need_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sectum.hetee.bench.cell import Cell

_OURS, _THEIRS = "#3b6fb6", "#b9bec7"
_STEPS = {"preprocess": "#d9dde3", "compute": "#8d99ab", "encryption": "#c8452f", "transfer": "#e8a33d"}
_LEAST_PCT = 0.05  # start of the logarithmic axis; smaller values are drawn there and labelled
_BAR = 0.38


def check_drawable(path: Path) -> None:
    """Check before a long measurement that its picture can be drawn.

    Raises:
        UsageError: matplotlib is not installed, or the file cannot be written.
    """
    need_extra("train", "drawing pictures", "matplotlib")
    check_writable(path)


def draw(cells: list[Cell], about: dict[str, Any]) -> bytes:
    """Draw cells as a PNG: throughput and latency overheads at the top, the four steps of latency below."""
    from matplotlib.figure import Figure

    from sectum.hetee.bench.published import FIGURES

    networks = list(dict.fromkeys(cell.network for cell in cells))
    # A narrower picture would cut off its title.
    figure = Figure(figsize=(max(2.9 * len(networks), 7.5), 10), layout="constrained")
    axes = figure.subplots(3, len(networks), sharey="row", squeeze=False)
    for column, network in enumerate(networks):
        mine = [cell for cell in cells if cell.network == network]
        axes[0][column].set_title(network, fontweight="bold")
        _overheads(axes[0][column], mine, "throughput_overhead_pct")
        _overheads(axes[1][column], mine, "latency_overhead_pct")
        _breakdown(axes[2][column], mine)
        axes[2][column].set_xlabel("images in a batch")
    part = FIGURES[cells[0].task]
    axes[0][0].set_ylabel(f"throughput overhead, %, logarithmic\n(figure 7{part})")
    axes[1][0].set_ylabel(f"latency overhead, %, logarithmic\n(figure 8{part})")
    axes[2][0].set_ylabel(f"latency of a batch, ms; H: HETEE, S: Sectum\n(figure 8{part})")
    _explain(figure, axes, cells, about)
    return png(figure)


def _explain(figure: Any, axes: Any, cells: list[Cell], about: dict[str, Any]) -> None:
    from matplotlib.patches import Patch

    systems = [Patch(color=_THEIRS, label="HETEE, published"), Patch(color=_OURS, label="Sectum, measured (95 %)")]
    axes[0][0].legend(handles=systems, frameon=False, fontsize=8, loc="upper left")
    steps = [Patch(color=color, label=step) for step, color in _STEPS.items()]
    steps.append(
        Patch(facecolor=_STEPS["transfer"], hatch="///", edgecolor="white", label="HETEE: encryption, transfer")
    )
    axes[2][0].legend(handles=steps, edgecolor="none", framealpha=0.85, fontsize=8, loc="upper left")
    how = sorted({f"preprocess {cell.preprocess}, compute {cell.compute}" for cell in cells})
    figure.suptitle(
        f"Confidential {cells[0].task}: what it costs over a plain baseline in the same run\n"
        f"{'; '.join(how)}; {about['machine']}, cores: {about['cores']}, medians of {about['batches']} batches; "
        "SOFTWARE evidence",
        fontsize=10,
    )


def _overheads(axes: Axes, cells: list[Cell], name: str) -> None:
    for at, cell in enumerate(cells):
        theirs, ours = getattr(cell.published, name), getattr(cell, name)
        axes.bar(at - _BAR / 2, theirs, _BAR, color=_THEIRS)
        axes.bar(at + _BAR / 2, max(ours.value, _LEAST_PCT), _BAR, color=_OURS)
        low, high = max(ours.low, _LEAST_PCT), max(ours.high, _LEAST_PCT)
        axes.plot([at + _BAR / 2] * 2, [low, high], color="black", linewidth=1)
        axes.text(at - _BAR / 2, theirs * 1.15, f"{theirs:.3g}", ha="center", va="bottom", fontsize=7, color="#5b6270")
        axes.text(at + _BAR / 2, high * 1.15, f"{ours.value:.2g}", ha="center", va="bottom", fontsize=7, color=_OURS)
    axes.set_yscale("log")
    axes.set_ylim(_LEAST_PCT, 1000)
    axes.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    _frame(axes, cells)
    axes.grid(axis="y", color="#e7e9ee", zorder=0)
    axes.set_axisbelow(True)


def _breakdown(axes: Axes, cells: list[Cell]) -> None:
    for at, cell in enumerate(cells):
        theirs, bottom = cell.published, 0.0
        parts = (
            (theirs.preprocess_ms, {"color": _STEPS["preprocess"]}),
            (theirs.compute_ms, {"color": _STEPS["compute"]}),
            (
                theirs.encryption_and_transfer_ms,
                {"facecolor": _STEPS["transfer"], "hatch": "///", "edgecolor": "white", "linewidth": 0},
            ),
        )
        for height, style in parts:
            axes.bar(at - _BAR / 2, height, _BAR, bottom=bottom, **style)
            bottom += height
        axes.text(at - _BAR / 2, bottom, "H", ha="center", va="bottom", fontsize=7, color="#5b6270")
        bottom = 0.0
        for step, height in cell.breakdown.json().items():
            axes.bar(at + _BAR / 2, max(height, 0.0), _BAR, bottom=bottom, color=_STEPS[step])
            bottom += max(height, 0.0)
        axes.text(at + _BAR / 2, bottom, "S", ha="center", va="bottom", fontsize=7, color=_OURS)
    _frame(axes, cells)


def _frame(axes: Axes, cells: list[Cell]) -> None:
    axes.set_xticks(range(len(cells)), [str(cell.batch) for cell in cells])
    axes.set_xlim(-0.6, len(cells) - 0.4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)
