"""Pictures of an evaluation: what was predicted, where it errs, and what it is compared with."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sectum.cli.evaluate.show import SPLIT_TITLES
from sectum.cli.render.output import write_file
from sectum.errors import UsageError
from sectum.lab.dataset.dataset import BOUNDARY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Figures = Mapping[str, Any]

_NATIVE, _FITS, _PAGES, _NEAR, _GREY = "#8a8a8a", "#3b6fb6", "#c8452f", "#f2e3b3", "#c9c9c9"
_REGIMES = ((0, _NATIVE, "native"), (1, _FITS, "fits"), (2, _PAGES, "over-committed"))
_SPLIT_COLOURS = {"random": _FITS, "leave_family_out": "#e0a030", "boundary": _PAGES}
_DOTS_PER_INCH = 130
_FARTHEST = 60.0  # percent; what errs more is drawn at the edge
_BINS = 10
_FEWEST_IN_BIN = 5


def draw(told: Figures, folder: Path) -> list[Path]:
    """Draw all pictures as PNG files into a folder, which is made if it is not there; returns their paths.

    Raises:
        UsageError: matplotlib is not installed, or the folder cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("pictures are drawn by matplotlib: pip install 'sectum[train]'") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror or error}; name another folder") from error
    drawn = []
    for name, (picture, size) in _PICTURES.items():
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        picture(axes, told)
        axes.spines[["top", "right"]].set_visible(False)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
        write_file(folder / f"{name}.png", content.getvalue())
        drawn.append(folder / f"{name}.png")
    return drawn


def _predictions(axes: Axes, told: Figures) -> None:
    import numpy as np

    cases = told["cases"]
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
        title=f"{told['learner']} on networks it did not learn from (random split)",
    )  # fmt: skip
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(frameon=False, markerscale=2.5)


def _errors(axes: Axes, told: Figures) -> None:
    import numpy as np

    cases = told["cases"]
    regime, occupation = np.array(cases["regime"]), np.array(cases["occupation"])
    error = 100 * (np.array(cases["predicted_ms"]) / np.array(cases["measured_ms"]) - 1)
    outside = int(np.sum((np.abs(error) > _FARTHEST) & (regime > 0)))
    for number, colour, label in _REGIMES[1:]:
        mask = regime == number
        axes.scatter(
            occupation[mask], np.clip(error[mask], -_FARTHEST, _FARTHEST), s=6, color=colour, alpha=0.5, linewidths=0,
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


def _families(axes: Axes, told: Figures) -> None:
    random, left_out = (told["splits"][split]["families"] for split in ("random", "leave_family_out"))
    families = sorted((name for name in random if random[name]["n"]), key=lambda name: random[name]["within_10"])
    for offset, split, figures in ((0.2, "random", random), (-0.2, "leave_family_out", left_out)):
        for position, name in enumerate(families):
            value = figures[name]["within_10"]
            if value is None:
                continue
            axes.barh(
                position + offset, 100 * value, 0.38, color=_SPLIT_COLOURS[split],
                label=SPLIT_TITLES[split] if position == 0 else None,
            )  # fmt: skip
            low, high = figures[name].get("intervals", {}).get("within_10", (None, None))
            if low is not None and high is not None:
                axes.plot([100 * low, 100 * high], [position + offset] * 2, color="black", linewidth=0.8)
    axes.set_yticks(range(len(families)), [f"{name} ({random[name]['n']})" for name in families])
    _noise_line(axes, told)
    axes.set(xlim=(0, 100), xlabel="rows within 10 %, in % (line: 95 % interval)", title="Accuracy by family (rows)")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=3)


def _baselines(axes: Axes, told: Figures) -> None:
    learners = {told["learner"]: told["splits"]} | {
        name: learner["splits"] for name, learner in told["baselines"].items()
    }
    names = sorted(learners, key=lambda name: learners[name]["random"]["within_10"])
    for position, name in enumerate(names):
        for offset, split in ((0.27, "random"), (0.0, "leave_family_out"), (-0.27, "boundary")):
            figures = learners[name][split]
            if figures["within_10"] is None:
                continue
            axes.barh(
                position + offset, 100 * figures["within_10"], 0.25, color=_SPLIT_COLOURS[split],
                label=SPLIT_TITLES[split] if position == 0 else None,
            )  # fmt: skip
            low, high = figures.get("intervals", {}).get("within_10", (None, None))
            if low is not None and high is not None:
                axes.plot([100 * low, 100 * high], [position + offset] * 2, color="black", linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.get_yticklabels()[names.index(told["learner"])].set_fontweight("bold")
    _noise_line(axes, told)
    axes.set(xlim=(0, 100), xlabel="rows within 10 %, in % (line: 95 % interval)",
             title="All learned from the same rows")  # fmt: skip
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4)


def _noise_line(axes: Axes, told: Figures) -> None:
    """What a second measurement reaches."""
    noise = told["label_noise"]
    if noise is not None and noise["within_10"] is not None:
        axes.axvline(100 * noise["within_10"], color="black", linestyle=":", linewidth=1, label="label noise")


def _reliability(axes: Axes, told: Figures) -> None:
    import numpy as np

    cases = told["cases"]
    kept = [i for i, p in enumerate(cases["probability"]) if p is not None]
    said = np.array([cases["probability"][i] for i in kept])
    so = np.array([cases["regime"][i] == 2 for i in kept])
    axes.plot([0, 100], [0, 100], color="black", linewidth=0.8, label="as said")
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
        title="Does it page as often as it is said to? (rows by tenths of probability)", xlim=(-3, 108), ylim=(-6, 106),
    )  # fmt: skip
    axes.legend(frameon=False)


_PICTURES: dict[str, tuple[Callable[[Axes, Figures], None], tuple[float, float]]] = {
    "predictions": (_predictions, (7, 6)),
    "errors": (_errors, (8, 5)),
    "accuracy-by-family": (_families, (8, 8)),
    "baselines": (_baselines, (8, 6)),
    "reliability": (_reliability, (6.5, 5.5)),
}
