"""``sectum calibrate``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from sectum.cli.options import examples, json_option
from sectum.cli.render.figures import milliseconds, number, percent, plural
from sectum.cli.render.output import print_json
from sectum.cli.render.progress import progress_bar
from sectum.cli.render.show import paragraph, remarks, rows, say
from sectum.errors import UsageError

_BUSY = 0.1
"""With more CPUs than this in use by other programs, on average, a calibration comes with a warning."""


@click.command(epilog=examples("sectum calibrate"))
@json_option
def calibrate(*, as_json: bool) -> None:
    """Measure this machine, so that predictions are in its milliseconds.

    This takes three to four minutes, during which nothing else should run. The result is stored in your data folder
    ($SECTUM_HOME, or $XDG_DATA_HOME/sectum) and used by all later predictions. Delete it to return to the machine
    that Sectum's models were measured on.

    Run it inside a confidential virtual machine (TDX, SEV-SNP, Nitro) to predict what models cost there: the kind of
    machine is recognised and recorded.
    """
    from sectum.enclave.profile_kinds import GUESTS
    from sectum.predict.calibrating import calibrate as measure_machine
    from sectum.predict.calibration import default_path

    folder = default_path().parent
    with _storing_in(folder):  # found out before minutes of measuring
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    with progress_bar() as progress:
        calibration = measure_machine(progress)
    with _storing_in(folder):
        path = calibration.store()
    if as_json:
        print_json({"kind": "measured", "path": str(path), **calibration.to_json()})
        return
    paragraph(f"Predictions are now in milliseconds of {calibration.machine}.")
    say("")
    entries = [
        ("GEMM reference kernel", milliseconds(calibration.references.products_ms), "measured"),
        ("reduction reference kernel", milliseconds(calibration.references.sums_ms), "measured"),
    ]
    for n, share in calibration.variation.items():
        entries.append((f"variation between rounds, {plural(n, 'thread')}", percent(share), "measured"))
    for n, costs in calibration.page_costs.items():
        threads = plural(n, "thread")
        entries.append((f"page swap, {threads}", f"{number(costs.swap_us)} us", "measured in the software EPC"))
        entries.append((f"minor fault, {threads}", f"{number(costs.minor_fault_us)} us", "measured"))
    rows(entries, right=(1,))
    notes = []
    if calibration.tee:
        notes.append(
            f"this ran inside {GUESTS[calibration.tee].words}: predicted native milliseconds contain its cost, and "
            f"--enclave {calibration.tee} adds none"
        )
    if not calibration.page_costs:
        notes.append("the software EPC cannot run here; its page costs are those of Sectum's own machine")
    notes += sorted({note for n in calibration.variation if (note := calibration.note_on_variation(n))})[-1:]
    if (others := calibration.context["cpus_used_by_others"]) > _BUSY:
        notes.append(
            f"other programs used {number(others)} CPUs during the calibration, so these numbers may be wrong, "
            "particularly those of two threads. Calibrate again when nothing else runs"
        )
    remarks(f"Note: {note}." for note in notes)
    say(f"\nStored in {path}.")


@contextmanager
def _storing_in(folder: Path) -> Iterator[None]:
    """Turn failures to store into a message that says what to do.

    Raises:
        UsageError: the folder cannot be created or written.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"the calibration cannot be stored in {folder}: {error.strerror or error}; set SECTUM_HOME to a folder "
            "that you may write"
        ) from error
