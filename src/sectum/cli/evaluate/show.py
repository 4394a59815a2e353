"""An evaluation for people: accuracy beside the labels' own noise."""

from __future__ import annotations

from sectum.cli.evaluate.tables import Figures, Table, accuracy, comparison, operators, regimes, threads, worst
from sectum.cli.render.figures import count
from sectum.cli.render.show import paragraph, rows, say

_MOST_WORST = 5


def print_evaluation(evaluation: Figures) -> None:
    """Print where the figures come from, those of the shipped method, and the learners compared."""
    data = evaluation["dataset"]
    made = "trained anew" if evaluation["retrained"] else f"stored figures of {evaluation['date'][:10]}"
    paragraph(
        f"{evaluation['learner']}, {made}: {count(data['networks'])} networks ({count(data['relatives'])} groups of "
        f"relatives), {count(data['rows'])} rows measured in the software enclave on {', '.join(data['machines'])}."
    )
    if evaluation["dataset_differs"]:
        paragraph(
            "These figures are of another dataset than the one here: 'sectum evaluate --retrain' judges that one.",
            hanging="  ",
        )
    if evaluation["label_noise"] is None:
        paragraph("No network was measured twice: the noise of the labels is not known.", hanging="  ")
    for table, ends_with_text in (
        (accuracy(evaluation), False),
        (regimes(evaluation), False),
        (threads(evaluation), False),
        (operators(evaluation), False),
        (comparison(evaluation, intervals=False), True),
        (worst(evaluation, _MOST_WORST), True),
    ):
        if table.lines:
            say("")
            _print(table, ends_with_text=ends_with_text)
    for text in evaluation["left_out"]:
        paragraph(text, hanging="  ")


def _print(table: Table, *, ends_with_text: bool) -> None:
    numbers = range(1, len(table.header) - ends_with_text)
    rows([(*line, "") if not ends_with_text else line for line in table.lines], right=numbers,
         header=table.header if ends_with_text else (*table.header, ""))  # fmt: skip
