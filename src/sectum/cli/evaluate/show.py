"""An evaluation for people: accuracy beside the labels' own noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sectum.cli.render.figures import count, milliseconds
from sectum.cli.render.show import paragraph, rows, say

Figures = Mapping[str, Any]

SPLIT_TITLES = {
    "random": "random",
    "leave_family_out": "family left out",
    "boundary": "boundary",
}
_MOST_WORST = 5


def share(value: float | None) -> str:
    """Write a share with one digit, since methods differ by less than a percent: ``84.3 %``."""
    return "-" if value is None else f"{100 * value:.1f} %"


def between(figures: Figures, name: str) -> str:
    """Write a figure's interval: ``82.0 to 86.1``."""
    low, high = figures.get("intervals", {}).get(name, (None, None))
    return "" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"


def plain(value: float | None) -> str:
    """Write a score between 0 and 1."""
    return "-" if value is None else f"{value:.3f}"


def print_evaluation(told: Figures) -> None:
    """Print where the figures come from, those of the shipped learner, and the learners compared."""
    _print_origin(told)
    _print_accuracy(told)
    _print_regimes(told)
    _print_comparison(told)
    _print_worst(told)
    for text in told["left_out"]:
        paragraph(text, hanging="  ")


def _print_origin(told: Figures) -> None:
    data = told["dataset"]
    made = "trained anew" if told["retrained"] else f"stored figures of {told['date'][:10]}"
    paragraph(
        f"{told['learner']}, {made}: {count(data['networks'])} networks ({count(data['relatives'])} groups of "
        f"relatives), {count(data['rows'])} rows measured in the software enclave on {', '.join(data['machines'])}."
    )
    if told["dataset_differs"]:
        paragraph(
            "The dataset here is another one than these figures are of: 'sectum evaluate --retrain' judges it.",
            hanging="  ",
        )
    say("")


def _print_accuracy(told: Figures) -> None:
    noise = told["label_noise"]
    lines = [_accuracy_line(title, told["splits"][split]) for split, title in SPLIT_TITLES.items()]
    if noise is None:
        lines.append(("label noise", "0", "-", "", "-", "", "-", "-", "nothing was measured twice yet"))
    else:
        lines.append(
            ("label noise", count(noise["n"]), share(noise["within_5"]), "", share(noise["within_10"]), "",
             share(noise["mape"]), "-", "a second measurement against the first")
        )  # fmt: skip
    rows(
        lines,
        right=(1, 2, 3, 4, 5, 6, 7),
        header=("split", "rows", "within 5 %", "95 % of it", "within 10 %", "95 % of it", "MAPE", "detector F1", ""),
    )
    say("")


def _accuracy_line(title: str, figures: Figures) -> tuple[str, ...]:
    return (
        title, count(figures["n"]), share(figures["within_5"]), between(figures, "within_5"),
        share(figures["within_10"]), between(figures, "within_10"), share(figures["mape"]),
        plain(figures["detector_f1"]), "",
    )  # fmt: skip


def _print_regimes(told: Figures) -> None:
    noise = (told["label_noise"] or {}).get("regimes", {})
    rows(
        [
            (
                name, count(figures["n"]), share(figures["within_5"]), share(figures["within_10"]),
                share(figures["mape"]), share(figures["rmspe"]), share(figures["coverage"]),
                share(noise.get(name, {}).get("within_10")), "",
            )
            for name, figures in told["splits"]["random"]["regimes"].items()
        ],
        right=(1, 2, 3, 4, 5, 6, 7),
        header=("regime", "cases", "within 5 %", "within 10 %", "MAPE", "RMSPE", "in 90 % interval",
                "labels within 10 %", "(random split)"),
    )  # fmt: skip
    say("")


def _print_comparison(told: Figures) -> None:
    learners = {told["learner"]: {"splits": told["splits"], "title": ""}, **told["baselines"]}
    rows(
        [
            (
                name,
                *(share(learner["splits"][split]["within_10"]) for split in SPLIT_TITLES),
                share(learner["splits"]["random"]["mape"]),
                plain(learner["splits"]["random"]["detector_f1"]),
                plain(learner["splits"]["boundary"]["detector_f1"]),
                learner["title"],
            )
            for name, learner in learners.items()
        ],
        right=(1, 2, 3, 4, 5, 6),
        header=("within 10 %", *SPLIT_TITLES.values(), "MAPE", "F1", "F1 at boundary", ""),
    )
    say("")


def _print_worst(told: Figures) -> None:
    rows(
        [
            (
                one["network"],
                "native" if one["epc_mib"] is None else f"{one['epc_mib']:.1f} MiB",
                f"{one['working_set_mib']:.1f} MiB",
                milliseconds(one["measured_ms"]),
                milliseconds(one["predicted_ms"]),
                one["reason"],
            )
            for one in told["worst"][:_MOST_WORST]
        ],
        right=(1, 2, 3, 4),
        header=("furthest off", "EPC", "working set", "measured", "predicted", "why"),
    )
