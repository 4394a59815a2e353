"""``sectum evaluate``: how good predictions are, beside how good the labels are."""

from __future__ import annotations

from pathlib import Path
from shutil import rmtree
from typing import Any

import click

from sectum.cli.options import examples, file_option, folder_option, json_option
from sectum.cli.render.output import check_writable, print_json, write_file
from sectum.cli.render.progress import progress_bar
from sectum.cli.render.show import say
from sectum.errors import UsageError

FOLDER = Path("data/networks")


@click.command(
    epilog=examples(
        "sectum evaluate",
        "sectum evaluate --pictures /tmp/pictures",
        "sectum evaluate --retrain --only page-model --only paper",
    )
)
@folder_option(
    "--data", "Folder of measured networks. The stored figures are read from evaluation.json beside it.", FOLDER
)
@click.option("--retrain", is_flag=True, help="Train and judge all learners again, in place of reading stored figures.")
@click.option("--only", "names", multiple=True, metavar="NAME", help="Only this learner; repeat it for others.")
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=None,
    help="Processes that train at the same time.  [default: as many as there are CPUs]",
)
@file_option("--out", "Write the whole evaluation into this JSON file.")
@folder_option(
    "--pictures",
    "Draw PNG files into this folder: predictions against measurements, errors against the EPC, intervals.",
)
@file_option("--markdown", "Write the figures as a page; the text between its 'hand-written' marks is kept.")
@json_option
def evaluate(
    *, data: Path, retrain: bool, names: tuple[str, ...], workers: int | None, out: Path | None,
    pictures: Path | None, markdown: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Show the accuracy of predictions on held-out networks.

    Three splits: random folds without near relatives on both sides; each family left out; and the random folds' rows
    whose working set is 0.8 to 1.25 times the EPC. Latencies are measured in the software enclave, figures are over
    its rows. Beside them stands the label noise: how well a second measurement agrees with the first.

    With --out, --retrain keeps what is done in FILE.folds, and goes on there when it was stopped.
    """
    from sectum.cli.evaluate.page import write_page
    from sectum.cli.evaluate.pictures import draw
    from sectum.cli.evaluate.show import print_evaluation
    from sectum.lab.evaluation.stored import dumps

    for path in (out, markdown):
        if path is not None:
            check_writable(path)
    keep = None if out is None else out.with_name(f"{out.name}.folds")
    evaluation = _retrained(data, names, workers, keep) if retrain else _stored(names, data)
    if out is not None:
        write_file(out, dumps(evaluation))
    if retrain and keep is not None:
        rmtree(keep, ignore_errors=True)
    differs = None if retrain else _differs(data, evaluation)
    evaluation = {"retrained": retrain, "dataset_differs": differs, **evaluation}
    if markdown is not None:
        write_page(evaluation, markdown)
    drawn = [] if pictures is None else draw(evaluation, pictures)
    if as_json:
        print_json({name: value for name, value in evaluation.items() if name != "cases"})
        return
    print_evaluation(evaluation)
    for path in drawn:
        say(f"drawn: {path}")


def _retrained(data: Path, names: tuple[str, ...], workers: int | None, keep: Path | None) -> dict[str, Any]:
    from sectum.lab.evaluation import stored
    from sectum.lab.evaluation.registry import chosen

    with progress_bar() as progress:
        progress("reading", 0.0)
        return stored.evaluate(data, chosen(names), workers=workers, progress=progress, keep=keep)


def _stored(names: tuple[str, ...], data: Path) -> dict[str, Any]:
    from sectum.lab.evaluation import stored

    evaluation = stored.load(data.parent / stored.FILE)
    for name in names:
        if name not in (evaluation["learner"], *evaluation["baselines"]):
            held = ", ".join((evaluation["learner"], *evaluation["baselines"]))
            raise UsageError(
                f"the stored evaluation has no learner '{name}', but {held}; --retrain evaluates others, too"
            )
    if names:
        evaluation["baselines"] = {name: its for name, its in evaluation["baselines"].items() if name in names}
    return evaluation


def _differs(data: Path, evaluation: dict[str, Any]) -> bool | None:
    """Whether the figures are of another dataset than the one here; None where there is none here."""
    from sectum.lab.evaluation.stored import dataset_digest

    return dataset_digest(data) != evaluation["dataset"]["digest"] if any(data.glob("*.parquet")) else None
