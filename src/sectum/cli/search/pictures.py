"""A search as a picture: what was looked at, and the front."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sectum.cli.render.figures import number
from sectum.cli.render.pictures import draw_all, plot
from sectum.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sectum.cli.search.searching import Searched
    from sectum.plan.search import Evaluated

_FITS, _PAGES, _PLANNED, _FRONT = "#3b6fb6", "#c8452f", "#3a8f5c", "#1b1b1b"


def draw(result: Searched, folder: Path) -> list[Path]:
    """Draw ``front.png`` into a folder; returns its path.

    Raises:
        UsageError: matplotlib is not installed, or the folder cannot be written.
    """
    return draw_all({"front": plot(partial(_front, result=result))}, folder)


def _front(axes: Axes, *, result: Searched) -> None:
    """Score against latency: all trials with a score, and the front with the upper ends of its intervals."""
    request = result.request
    scored = [one for one in result.found.evaluated if one.score is not None and not one.failure]
    for label, colour in (("fits into the EPC", _FITS), ("pages", _PAGES), ("runs by a plan", _PLANNED)):
        chosen = [one for one in scored if _colour(one) == colour]
        if colour == _PLANNED and not request.plans:
            continue
        axes.scatter(
            [one.latency_ms for one in chosen], [one.score or 0.0 for one in chosen], s=10, alpha=0.35, color=colour,
            linewidths=0, label=f"{label}: {len(chosen):,}",
        )  # fmt: skip
    front = [one.evaluated for one in result.found.front]
    axes.step(
        [one.latency_ms for one in front], [one.score or 0.0 for one in front], where="post", color=_FRONT, linewidth=1
    )
    axes.errorbar(
        [one.latency_ms for one in front], [one.score or 0.0 for one in front],
        xerr=[[0.0] * len(front), [one.upper_ms - one.latency_ms for one in front]],
        fmt="none", ecolor=_FRONT, elinewidth=0.8, capsize=2,
    )  # fmt: skip
    axes.scatter(
        [one.latency_ms for one in front], [one.score or 0.0 for one in front], s=32, edgecolors=_FRONT,
        c=[_colour(one) for one in front], zorder=3,
        label=f"front: {len(front)}, with the upper end of the interval",
    )  # fmt: skip
    axes.axvline(request.bound_ms, color="black", linestyle="--", linewidth=1.0)
    axes.annotate("bound ", (request.bound_ms, axes.get_ylim()[1]), ha="right", va="top", rotation=90)
    epc = "" if result.profile.epc_bytes is None else f" with an EPC of {format_bytes(result.profile.epc_bytes)}"
    axes.set(
        xlabel="latency in ms (predicted)", ylabel=f"score: {request.objective}",
        title=f"{request.space}: {result.found.under_bound:,} of {result.found.trials:,} trials stay under "
              f"{number(request.bound_ms)} ms\nin {result.profile.name}{epc}",
    )  # fmt: skip
    axes.legend(loc="lower right", frameon=True, framealpha=0.9)


def _colour(one: Evaluated) -> str:
    if one.planned:
        return _PLANNED
    return _PAGES if one.overcommit else _FITS
