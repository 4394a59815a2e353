"""Pictures of an evaluation: predictions against measurements, errors against the EPC size, intervals by operator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sectum.cli.evaluate.tables import Figures
from sectum.cli.render.pictures import draw_all
from sectum.lab.dataset.dataset import BOUNDARY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NATIVE, _FITS, _PAGES, _NEAR, _GREY = "#8a8a8a", "#3b6fb6", "#c8452f", "#f2e3b3", "#c9c9c9"
_REGIMES = ((0, _NATIVE, "native"), (1, _FITS, "fits"), (2, _PAGES, "over-committed"))
_FARTHEST = 60.0  # percent; what errs more is drawn at the edge


def draw(evaluation: Figures, folder: Path) -> list[Path]:
    """Draw all pictures as PNG files into a folder, which is made if necessary; returns their paths.

    Raises:
        UsageError: matplotlib is not installed, or the folder cannot be written.
    """

    def of(picture: Callable[[Axes, Figures], None], size: tuple[float, float]) -> Callable[[Figure], None]:
        def drawn(figure: Figure) -> None:
            figure.set_size_inches(*size)
            picture(figure.add_subplot(), evaluation)

        return drawn

    known = {name: one for name, one in _PICTURES.items() if name != "intervals" or evaluation.get("by_operator")}
    return draw_all({name: of(picture, size) for name, (picture, size) in known.items()}, folder)


def _predictions(axes: Axes, evaluation: Figures) -> None:
    import numpy as np

    cases = evaluation["cases"]
    regime, measured, predicted = (np.array(cases[name]) for name in ("regime", "measured_ms", "predicted_ms"))
    for number, colour, label in _REGIMES:
        mask = regime == number
        axes.scatter(
            measured[mask], predicted[mask], s=6, color=colour, alpha=0.5, linewidths=0,
            label=f"{label} ({int(mask.sum()):,})",
        )  # fmt: skip
    ends = np.array([min(measured.min(), predicted.min()), max(measured.max(), predicted.max())])
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.fill_between(ends, 0.9 * ends, 1.1 * ends, color=_GREY, alpha=0.5, linewidth=0, zorder=0, label="within 10 %")
    axes.set(
        xscale="log", yscale="log", xlabel="measured latency, ms", ylabel="predicted latency, ms",
        title=f"{evaluation['learner']} on held-out networks (random split)",
    )  # fmt: skip
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(frameon=False, markerscale=2.5)


def _errors(axes: Axes, evaluation: Figures) -> None:
    import numpy as np

    cases = evaluation["cases"]
    regime, epc_ratio = np.array(cases["regime"]), np.array(cases["epc_ratio"])
    error = 100 * (np.array(cases["predicted_ms"]) / np.array(cases["measured_ms"]) - 1)
    outside = int(np.sum((np.abs(error) > _FARTHEST) & (regime > 0)))
    for number, colour, label in _REGIMES[1:]:
        mask = regime == number
        axes.scatter(
            epc_ratio[mask], np.clip(error[mask], -_FARTHEST, _FARTHEST), s=6, color=colour, alpha=0.5, linewidths=0,
            label=label,
        )  # fmt: skip
    axes.axvspan(*BOUNDARY, color=_NEAR, linewidth=0, zorder=0)
    axes.axhspan(-10, 10, color=_GREY, alpha=0.5, linewidth=0, zorder=0.5, label="within 10 %")
    axes.axvline(1, color="black", linewidth=0.8, zorder=1)
    at_the_edge = f"; {outside} beyond {_FARTHEST:.0f} % stand at the edge" if outside else ""
    axes.set(
        xscale="log", xlabel="working set / EPC (shaded: the boundary)", ylabel="predicted over measured, less 1, in %",
        title=f"Errors against the EPC size{at_the_edge}",
    )  # fmt: skip
    axes.set_xticks((0.2, 0.5, 1, 2, 5))
    axes.minorticks_off()
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(frameon=False, markerscale=2.5, loc="upper left")


def _intervals(axes: Axes, evaluation: Figures) -> None:
    parts = sorted(evaluation["by_operator"].items(), key=lambda part: part[1]["coverage"] or 0.0)
    for line, (_, figures) in enumerate(parts):
        inside = 100 * (figures["coverage"] or 0.0)
        low, high = (100 * end for end in figures["intervals"].get("coverage", (inside / 100, inside / 100)))
        axes.plot((low, high), (line, line), color=_FITS, linewidth=1.2)
        axes.plot(inside, line, "o", color=_FITS, markersize=4)
    axes.axvline(90, color="black", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(parts)), [f"{name}  ({figures['n']:,})" for name, figures in parts], fontsize=8)
    axes.set(
        xlim=(min(60, *axes.get_xlim()), 100.5), ylim=(-0.7, len(parts) - 0.3),
        xlabel="measurements inside the 90 % interval, %\n(line: 95 % of resamples; in brackets: cases)",
        title="90 % intervals, by operators of held-out networks",
    )  # fmt: skip


_PICTURES: dict[str, tuple[Callable[[Axes, Figures], None], tuple[float, float]]] = {
    "predictions": (_predictions, (7, 6)),
    "errors": (_errors, (8, 5)),
    "intervals": (_intervals, (8, 8)),
}
