"""An evaluation's figures as tables, the same for the terminal and for the page of documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sectum.cli.render.figures import count
from sectum.lab.evaluation.diagnosis import REASONS

Figures = Mapping[str, Any]

SPLIT_TITLES = {"random": "random", "leave_family_out": "family left out", "boundary": "boundary"}


@dataclass(frozen=True)
class Table:
    """Cells as text; all columns but the first hold numbers, or text if they are the last."""

    header: tuple[str, ...]
    lines: Sequence[tuple[str, ...]]


def share(value: float | None) -> str:
    """Write a share with one digit, since methods differ by less than a percent: ``84.3 %``."""
    return "-" if value is None else f"{100 * value:.1f} %"


def plain(value: float | None) -> str:
    """Write a score between 0 and 1."""
    return "-" if value is None else f"{value:.3f}"


def with_interval(figures: Figures, name: str) -> str:
    """Write a share with its 95 % interval: ``84.3 % (82.0 to 86.1)``."""
    low, high = figures.get("intervals", {}).get(name, (None, None))
    interval = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return share(figures[name]) + interval


def accuracy(evaluation: Figures) -> Table:
    """The main learner on each split, and the labels' noise."""
    noise = evaluation["label_noise"]
    lines = [
        (
            title, count(figures["n"]), *(with_interval(figures, name) for name in ("within_5", "within_10", "mape")),
            *(plain(figures[f"detector_{name}"]) for name in ("precision", "recall", "f1", "ece")),
        )
        for split, title in SPLIT_TITLES.items()
        for figures in [evaluation["splits"][split]]
    ]  # fmt: skip
    if noise is not None:
        measured = (share(noise[name]) for name in ("within_5", "within_10", "mape"))
        lines.append(("label noise", count(noise["n"]), *measured, "", "", "", ""))
    return Table(("split", "rows", "within 5 %", "within 10 %", "MAPE", "precision", "recall", "F1", "ECE"), lines)


def regimes(evaluation: Figures) -> Table:
    """The main learner by regime, on the random split."""
    noise = (evaluation["label_noise"] or {}).get("regimes", {})
    lines = [
        (
            name,
            count(figures["n"]),
            *(share(figures[figure]) for figure in ("within_5", "within_10", "mape", "rmspe", "coverage")),
            share(noise.get(name, {}).get("within_10")),
        )
        for name, figures in evaluation["splits"]["random"]["regimes"].items()
    ]
    header = ("regime (random split)", "cases", "within 5 %", "within 10 %", "MAPE", "RMSPE", "in the 90 % interval",
              "labels within 10 %")  # fmt: skip
    return Table(header, lines)


def latencies(evaluation: Figures) -> Table:
    """The main learner by measured latency, beside networks that were measured twice."""
    lines = [
        (
            _range(figures),
            count(figures["n"]),
            share(figures["within_10"]),
            count(figures["twice"]["n"]),
            *(share(figures["twice"][what]["within_10"]) for what in ("labels", "first", "mean")),
        )
        for figures in evaluation["by_latency"]
    ]
    header = ("measured latency (random split)", "cases", "within 10 %", "measured twice", "labels within 10 %",
              "predictions of these within 10 % of the first", "of the mean of both")  # fmt: skip
    return Table(header, lines)


def _range(figures: Figures) -> str:
    low, high = figures["from_ms"], figures["below_ms"]
    if high is None:
        return "all" if not low else f"{low:g} ms and more"
    return f"{low:g} to {high:g} ms" if low else f"under {high:g} ms"


def comparison(evaluation: Figures, *, intervals: bool) -> Table:
    """All learners, with the intervals of their shares or without."""
    written = with_interval if intervals else lambda figures, name: share(figures[name])
    main = evaluation["learner"]
    learners = {main: {"splits": evaluation["splits"], "title": "this method"}, **evaluation["baselines"]}
    lines = [
        (
            name,
            *(written(learner["splits"][split], "within_10") for split in SPLIT_TITLES),
            share(learner["splits"]["random"]["mape"]),
            *(plain(learner["splits"][split]["detector_f1"]) for split in SPLIT_TITLES),
            learner["title"],
        )
        for name, learner in learners.items()
    ]
    titles = tuple(SPLIT_TITLES.values())
    header = ("within 10 %", *titles, "MAPE, random", *(f"F1, {title}" for title in titles), "what it is")
    return Table(header, lines)


def families(evaluation: Figures) -> Table:
    """The main learner by family: on the random split, and where the family is left out."""
    random, left_out = (evaluation["splits"][split]["families"] for split in ("random", "leave_family_out"))
    lines = [
        (
            name,
            count(figures["n"]),
            with_interval(figures, "within_10"),
            share(figures["mape"]),
            with_interval(left_out[name], "within_10"),
            share(left_out[name]["mape"]),
        )
        for name, figures in random.items()
    ]
    return Table(("family", "rows", "within 10 %", "MAPE", "left out: within 10 %", "left out: MAPE"), lines)


def operators(evaluation: Figures) -> Table:
    """The main learner by type of operator that networks spend a tenth of their time in; random split.

    Without lines if the evaluation was stored by release 0.1, which did not judge by type.
    """
    return _parts(evaluation.get("by_operator", {}), "operator")


def threads(evaluation: Figures) -> Table:
    """The main learner by number of compute threads; random split. Without lines as `operators`."""
    return _parts(evaluation.get("by_threads", {}), "threads")


def _parts(parts: Mapping[str, Figures], what: str) -> Table:
    lines = [
        (
            name,
            count(figures["n"]),
            with_interval(figures, "within_10"),
            share(figures["mape"]),
            with_interval(figures, "coverage"),
        )
        for name, figures in parts.items()
    ]
    return Table((what, "cases", "within 10 %", "MAPE", "in the 90 % interval"), lines)


def reasons(evaluation: Figures) -> Table:
    """How many cases are more than 10 % off, by regime and reason."""
    found = evaluation["reasons"].items()
    lines = [(name, *(count(of_reason[reason]) for reason in REASONS)) for name, of_reason in found]
    return Table(("regime", *REASONS), lines)


def worst(evaluation: Figures, most: int | None = None) -> Table:
    """The cases with the largest errors."""
    lines = [
        (
            one["network"],
            "native" if one["epc_mib"] is None else f"{one['epc_mib']:.1f}",
            f"{one['working_set_mib']:.1f}",
            f"{one['measured_ms']:,.1f}",
            f"{one['predicted_ms']:,.1f}",
            one["reason"],
        )
        for one in evaluation["worst"][:most]
    ]
    return Table(("largest errors", "EPC, MiB", "working set, MiB", "measured, ms", "predicted, ms", "reason"), lines)
