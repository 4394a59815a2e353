"""Pictures of an evaluation: predictions, errors, and the learners compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sectum.cli.evaluate.tables import SPLIT_TITLES, Figures
from sectum.cli.render.pictures import draw_all
from sectum.lab.dataset.dataset import BOUNDARY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NATIVE, _FITS, _PAGES, _NEAR, _GREY = "#8a8a8a", "#3b6fb6", "#c8452f", "#f2e3b3", "#c9c9c9"
_REGIMES = ((0, _NATIVE, "native"), (1, _FITS, "fits"), (2, _PAGES, "over-committed"))
_SPLIT_COLOURS = {"random": _FITS, "leave_family_out": "#e0a030", "boundary": _PAGES}
_FARTHEST = 60.0  # percent; what errs more is drawn at the edge
_BINS = 10
_FEWEST_IN_BIN = 5


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

    return draw_all({name: of(picture, size) for name, (picture, size) in _PICTURES.items()}, folder)


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
        title=f"Errors against the size of the EPC{at_the_edge}",
    )  # fmt: skip
    axes.set_xticks((0.2, 0.5, 1, 2, 5))
    axes.minorticks_off()
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(frameon=False, markerscale=2.5, loc="upper left")


def _families(axes: Axes, evaluation: Figures) -> None:
    splits = {split: evaluation["splits"][split]["families"] for split in ("random", "leave_family_out")}
    random = splits["random"]
    families = sorted((name for name in random if random[name]["n"]), key=lambda name: random[name]["within_10"])
    _bars(axes, evaluation, {split: [its[name] for name in families] for split, its in splits.items()})
    axes.set_yticks(range(len(families)), [f"{name} ({random[name]['n']})" for name in families])
    axes.set_title("Accuracy by family (rows)")


def _baselines(axes: Axes, evaluation: Figures) -> None:
    learners = {evaluation["learner"]: evaluation["splits"]} | {
        name: learner["splits"] for name, learner in evaluation["baselines"].items()
    }
    names = sorted(learners, key=lambda name: learners[name]["random"]["within_10"])
    _bars(axes, evaluation, {split: [learners[name][split] for name in names] for split in SPLIT_TITLES})
    axes.set_yticks(range(len(names)), names)
    axes.get_yticklabels()[names.index(evaluation["learner"])].set_fontweight("bold")
    axes.set_title("All learned from the same rows")


def _bars(axes: Axes, evaluation: Figures, splits: Mapping[str, Sequence[Figures]]) -> None:
    """Rows within 10 %: for each entry one bar for each split, and the label noise as a line."""
    height = 0.8 / len(splits)
    for number, (split, entries) in enumerate(splits.items()):
        for position, figures in enumerate(entries):
            if figures["within_10"] is None:
                continue
            middle = position + ((len(splits) - 1) / 2 - number) * height
            axes.barh(
                middle, 100 * figures["within_10"], 0.95 * height, color=_SPLIT_COLOURS[split],
                label=SPLIT_TITLES[split] if position == 0 else None,
            )  # fmt: skip
            low, high = figures.get("intervals", {}).get("within_10", (None, None))
            if low is not None and high is not None:
                axes.plot([100 * low, 100 * high], [middle] * 2, color="black", linewidth=0.8)
    noise = evaluation["label_noise"]
    if noise is not None and noise["within_10"] is not None:
        axes.axvline(100 * noise["within_10"], color="black", linestyle=":", linewidth=1, label="label noise")
    axes.set(xlim=(0, 100), xlabel="rows within 10 %, in % (line: 95 % interval)")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4)


def _reliability(axes: Axes, evaluation: Figures) -> None:
    import numpy as np

    cases = evaluation["cases"]
    kept = [i for i, p in enumerate(cases["probability"]) if p is not None]
    said = np.array([cases["probability"][i] for i in kept])
    so = np.array([cases["regime"][i] == 2 for i in kept])
    axes.plot([0, 100], [0, 100], color="black", linewidth=0.8, label="calibrated")
    if len(kept):
        bins = np.minimum((said * _BINS).astype(int), _BINS - 1)
        for number in range(_BINS):
            mask = bins == number
            n = int(mask.sum())
            if not n:
                continue
            few = n < _FEWEST_IN_BIN
            at = (100 * said[mask].mean(), 100 * so[mask].mean())
            axes.scatter(*at, s=12 + 160 * np.sqrt(n / len(kept)), color=_GREY if few else _PAGES, zorder=3)
            axes.annotate(f"{n:,}", at, xytext=(8, -9), textcoords="offset points", fontsize=8)
    axes.set(
        xlabel="probability of over-commitment, in %, mean of a tenth", ylabel="rows that were over-committed, in %",
        title="Calibration of the probability of over-commitment (rows by tenths)", xlim=(-3, 108), ylim=(-6, 106),
    )  # fmt: skip
    axes.legend(frameon=False)


_PICTURES: dict[str, tuple[Callable[[Axes, Figures], None], tuple[float, float]]] = {
    "predictions": (_predictions, (7, 6)),
    "errors": (_errors, (8, 5)),
    "accuracy-by-family": (_families, (8, 8)),
    "baselines": (_baselines, (8, 6)),
    "reliability": (_reliability, (6.5, 5.5)),
}
