"""``sectum calibrate``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from sectum.cli.options import examples, json_option
from sectum.errors import UsageError

_BUSY = 0.1
"""Processors used by other programs, in the mean, from which on a calibration is doubted."""

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog=examples("sectum calibrate"))
@json_option
def calibrate(*, as_json: bool) -> None:
    """Measure this machine, so that predictions are in its milliseconds.

    It takes about two minutes, in which nothing else should run. The result is kept in your data folder
    ($SECTUM_HOME, or $XDG_DATA_HOME/sectum) and used by every later prediction; delete it to go back to the
    machine that Sectum was shipped with.
    """
    from sectum.cli.render.output import print_json
    from sectum.cli.render.progress import progress_bar
    from sectum.predict.calibrating import calibrate as measure_machine
    from sectum.predict.calibration import default_path

    folder = default_path().parent
    with _stored_in(folder):  # known before two minutes are spent for it
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    with progress_bar() as progress:
        calibration = measure_machine(progress)
    with _stored_in(folder):
        path = calibration.store()
    if as_json:
        print_json({"kind": "measured", "path": str(path), **calibration.to_json()})
        return
    from sectum.cli.render.figures import milliseconds, number
    from sectum.cli.render.show import paragraph, rows, say

    paragraph(f"Predictions are now in milliseconds of {calibration.machine}.")
    say("")
    entries = [
        ("reference kernel of products", milliseconds(calibration.references.products_ms), "measured"),
        ("reference kernel of sums", milliseconds(calibration.references.sums_ms), "measured"),
    ]
    for n, costs in calibration.page_costs.items():
        entries.append((f"page swapped, {_threads(n)}", f"{number(costs.swap_us)} us", "measured in the software EPC"))
        entries.append((f"page mapped again, {_threads(n)}", f"{number(costs.minor_fault_us)} us", "measured"))
    rows(entries, right=(1,))
    if not calibration.page_costs:
        say("")
        paragraph("Note: the software EPC cannot run here, so the cost of its pages is the shipped one.")
    if (others := calibration.context["cpus_used_by_others"]) > _BUSY:
        say("")
        paragraph(
            f"Note: other programs used {number(others)} processors meanwhile, so these numbers may be wrong, those of "
            "two threads above all. Calibrate again when nothing else runs."
        )
    say(f"\nStored in {path}")


@contextmanager
def _stored_in(folder: Path) -> Iterator[None]:
    """Say what to do where nothing can be stored.

    Raises:
        UsageError: the folder cannot be made, or not be written.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"the calibration cannot be stored in {folder}: {error.strerror or error}; set SECTUM_HOME to a folder "
            "that you may write"
        ) from error


def _threads(n: int) -> str:
    return "1 thread" if n == 1 else f"{n} threads"
