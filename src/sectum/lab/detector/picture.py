"""A reliability diagram: what detectors said of measured rows, and how often it happened."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sectum.errors import UsageError
from sectum.lab.detector.judging import Judged, expected_calibration_error, reliability

_COLOURS = ("#3b6fb6", "#c8452f", "#3d8b57")
_BINS = 10
_Z95 = 1.96
_DOTS_PER_INCH = 130


def draw(judged: Mapping[str, Judged], path: Path, *, title: str) -> None:
    """Draw one panel for each detector: reliability above, how often each probability was said below.

    Bars through the points are 95 % intervals (Wilson) of the share that happened.

    Args:
        judged: by the name of the detector, on measured rows.
        path: of the PNG file.
        title: says which rows.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("pictures are drawn by matplotlib: pip install 'sectum[learn]'") from error
    figure = Figure(figsize=(4 * len(judged), 5.6), layout="constrained")
    grid = figure.subplots(2, len(judged), squeeze=False, height_ratios=(3, 1), sharex=True, sharey="row")
    for (above, below), (name, its), colour in zip(grid.T, judged.items(), _COLOURS, strict=False):
        bins = reliability(its.probabilities, its.over_committed, _BINS)
        distance = expected_calibration_error(its.probabilities, its.over_committed)
        above.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--", zorder=1)
        ends = np.array([_wilson(one.happened, one.rows) for one in bins])
        happened = np.array([one.happened for one in bins])
        above.errorbar(
            [one.said for one in bins],
            happened,
            yerr=np.abs(ends.T - happened),
            fmt="o",
            color=colour,
            markersize=6,
            elinewidth=1.3,
            capsize=3,
            zorder=2,
        )
        above.set_title(f"{name}\nECE {distance:.3f}, {len(its.probabilities)} rows", fontsize=11)
        above.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        above.grid(alpha=0.25)
        below.hist(its.probabilities, bins=np.linspace(0, 1, _BINS + 1), color=colour, rwidth=0.9)
        below.set_yscale("log")
        below.set_xlabel("predicted probability of paging")
        for axes in (above, below):
            axes.spines[["top", "right"]].set_visible(False)
    grid[0, 0].set_ylabel("measured share that pages")
    grid[1, 0].set_ylabel("rows")
    figure.suptitle(title, fontsize=12)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())


def _wilson(share: float, rows: int) -> tuple[float, float]:
    """95 % interval of a share that was seen in so many rows."""
    z = _Z95**2 / rows
    middle = (share + z / 2) / (1 + z)
    half = np.sqrt(z * share * (1 - share) + z**2 / 4) / (1 + z)
    return float(middle - half), float(middle + half)
