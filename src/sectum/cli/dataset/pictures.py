"""Pictures of a dataset: what was measured, and what over-commitment costs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sectum.cli.dataset.summary import Survey
from sectum.cli.render.pictures import draw_all, plot
from sectum.errors import UsageError
from sectum.lab.dataset.dataset import BOUNDARY
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
    axes.set(xscale="log", xlabel="latency outside an enclave, ms", title="Native latency by family (measurements)")
    _plain_numbers(axes.xaxis)


def _working_set(axes: Axes, found: Survey) -> None:
    for pages, colour, label in _KINDS:
        chosen = [row for row in found.rows if row.is_overcommitted is pages]
        axes.scatter(
            [row.epc_bytes / MIB for row in chosen],
            [row.working_set_bytes / MIB for row in chosen],
            s=5, color=colour, alpha=0.5, linewidths=0, label=f"{label} ({len(chosen):,})",
        )  # fmt: skip
    ends = [min(row.epc_bytes for row in found.rows) / MIB, max(row.epc_bytes for row in found.rows) / MIB]
    axes.plot(ends, ends, color="black", linewidth=0.8, label="working set = EPC")
    axes.set(xscale="log", yscale="log", xlabel="EPC, MiB", ylabel="working set, MiB", title="What was measured")
    _plain_numbers(axes.xaxis)
    _plain_numbers(axes.yaxis)
    axes.legend(frameon=False, markerscale=3)


def _plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis with 1, 2, 5, 10 and so on, be it of four decades or of a half."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _loads(axes: Axes, found: Survey) -> None:
    axes.scatter(
        [row.occupation for row in found.rows],
        [row.loaded_share for row in found.rows],
        s=5, color=_PAGES, alpha=0.4, linewidths=0,
    )  # fmt: skip
    _against_occupation(axes, "The cliff: pages loaded in an inference, as a share of the working set's")
    axes.set(ylabel="pages loaded / pages of the working set")


def _slowdown(axes: Axes, found: Survey) -> None:
    for pages, colour, label in _KINDS:
        chosen = [row for row in found.rows if row.is_overcommitted is pages]
        axes.scatter(
            [row.occupation for row in chosen],
            [row.slowdown for row in chosen],
            s=5, color=colour, alpha=0.4, linewidths=0, label=label,
        )  # fmt: skip
    _against_occupation(axes, "What it costs: latency in the enclave over native latency")
    axes.set(yscale="log", ylabel="slowdown, times")
    axes.set_yticks(_SLOWDOWNS)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.legend(frameon=False, markerscale=3)


def _against_occupation(axes: Axes, title: str) -> None:
    axes.axvspan(*BOUNDARY, color=_NEAR, linewidth=0, zorder=0)
    axes.axvline(1, color="black", linewidth=0.8, zorder=0)
    axes.set(xscale="log", xlabel="working set / EPC (shaded: the boundary)", title=title)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xticks(_OCCUPATIONS)
    axes.minorticks_off()


_OCCUPATIONS = (0.2, 0.5, 1, 2, 5)
_SLOWDOWNS = (1, 2, 5, 10, 20, 50)
_KINDS = ((False, _FITS, "fits"), (True, _PAGES, "over-committed"))
_PICTURES: dict[str, Callable[..., None]] = {
    "native-latency": _native_latency,
    "working-set": _working_set,
    "loads": _loads,
    "slowdown": _slowdown,
}
