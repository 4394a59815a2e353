"""Pictures of a dataset: what was measured, and what over-commitment costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sectum.cli.render.pictures import draw_all, plot
from sectum.errors import UsageError
from sectum.lab.dataset.dataset import BOUNDARY
from sectum.lab.dataset.summary import EnclaveRow, Survey
from sectum.units import MIB

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_FITS, _PAGES, _NEAR = "#3b6fb6", "#c8452f", "#f2e3b3"


def draw(found: Survey, folder: Path) -> list[Path]:
    """Draw all pictures as PNG files into a folder, which is made if it is not there; returns their paths.

    Raises:
        UsageError: matplotlib is not installed, the folder cannot be written, or there is nothing to draw.
    """
    if not found.rows:
        raise UsageError("there is nothing to draw: no network of this dataset was measured")
    return draw_all({name: plot(partial(picture, found=found)) for name, picture in _PICTURES.items()}, folder)


def _native_latency(axes: Axes, found: Survey) -> None:
    """Each family's latencies: quartiles as a box, 5 to 95 % as a line."""
    import numpy as np

    families = sorted(found.native_ms, key=lambda family: float(np.median(found.native_ms[family])))
    axes.boxplot(
        [found.native_ms[family] for family in families],
        orientation="horizontal",
        whis=(5, 95),
        widths=0.6,
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": _FITS, "alpha": 0.5},
        medianprops={"color": _PAGES},
        tick_labels=[f"{family} ({len(found.native_ms[family])})" for family in families],
    )
    axes.set(
        xscale="log",
        xlabel="native latency, ms",
        title="Native latency by family (and number of measurements)",
    )
    _plain_numbers(axes.xaxis)


def _working_set(axes: Axes, found: Survey) -> None:
    _scatter(axes, found.rows, lambda row: row.epc_bytes / MIB, lambda row: row.working_set_bytes / MIB)
    ends = [min(row.epc_bytes for row in found.rows) / MIB, max(row.epc_bytes for row in found.rows) / MIB]
    axes.plot(ends, ends, color="black", linewidth=0.8, label="working set = EPC")
    axes.set(xscale="log", yscale="log", xlabel="EPC, MiB", ylabel="working set, MiB")
    axes.set_title("Working set and EPC of all rows (measured)")
    _plain_numbers(axes.xaxis)
    _plain_numbers(axes.yaxis)
    axes.legend(frameon=False, markerscale=3)


def _loads(axes: Axes, found: Survey) -> None:
    _against_ratio(axes, found, lambda row: row.loaded_share)
    axes.set(ylabel="pages loaded / pages of the working set")
    axes.set_title("Pages loaded in an inference, relative to the working set (measured)")


def _slowdown(axes: Axes, found: Survey) -> None:
    _against_ratio(axes, found, lambda row: row.slowdown)
    axes.set(yscale="log", ylabel="slowdown, times")
    axes.set_title("Slowdown: latency in the enclave / native latency (measured)")
    _plain_numbers(axes.yaxis)


def _against_ratio(axes: Axes, found: Survey, value: Callable[[EnclaveRow], float]) -> None:
    """Draw a value of all rows over working set / EPC."""
    axes.set(xscale="log", xlabel="working set / EPC (shaded: the boundary)")
    axes.axvspan(*BOUNDARY, color=_NEAR, linewidth=0, zorder=0)
    axes.axvline(1, color="black", linewidth=0.8, zorder=0)
    shown = [row for row in found.rows if row.working_set_bytes]  # 0 has no place on a logarithmic axis
    _scatter(axes, shown, lambda row: row.working_set_over_epc, value)
    _plain_numbers(axes.xaxis)
    axes.legend(frameon=False, markerscale=3, loc="upper left")


def _scatter(
    axes: Axes, rows: Sequence[EnclaveRow], x: Callable[[EnclaveRow], float], y: Callable[[EnclaveRow], float]
) -> None:
    for pages, colour, label in ((False, _FITS, "fits"), (True, _PAGES, "over-committed")):
        chosen = [row for row in rows if row.is_overcommitted is pages]
        axes.scatter(
            list(map(x, chosen)), list(map(y, chosen)), s=5, color=colour, alpha=0.4, linewidths=0,
            label=f"{label} ({len(chosen):,})",
        )  # fmt: skip


def _plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis with 1, 2, 5, 10 and so on, be it of four decades or of a half."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


_PICTURES: dict[str, Callable[..., None]] = {
    "native-latency": _native_latency,
    "working-set": _working_set,
    "loads": _loads,
    "slowdown": _slowdown,
}
