"""``sectum run``."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sectum.cli.options import (
    Inputs,
    deadline_option,
    epc_option,
    examples,
    json_option,
    output_option,
    shape_options,
    threads_option,
)
from sectum.cli.plan.planning import RUNNERS
from sectum.cli.render.figures import percent, plural
from sectum.cli.render.output import check_writable, print_json, write_file
from sectum.cli.render.show import paragraph, rows, say
from sectum.cli.render.untrusted import printable
from sectum.errors import UsageError
from sectum.units import format_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sectum.cli.plan.chain import ChainResult
    from sectum.cli.plan.once import Difference
    from sectum.cli.plan.planning import PlanResult

_SHOWN = 5


@click.command(
    epilog=examples(
        "sectum run plan.json --input-file images.npz -o outputs.npz",
        "sectum run zoo:vgg16 --epc 93MiB --json",
    )
)
@click.argument("model", metavar="MODEL|PLAN")
@click.option("--enclave", type=click.Choice(RUNNERS), default=RUNNERS[0], show_default=True, help="Where to run.")
@epc_option
@shape_options
@threads_option
@deadline_option("600", "End the run after so many seconds.")
@output_option("Write the outputs to this .npz file of numpy.")
@json_option
def run(
    *,
    model: str,
    enclave: str,
    epc_bytes: int | None,
    batch: int | None,
    inputs: Inputs,
    threads: int,
    deadline_s: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """Run MODEL once in the software enclave, by the best plan or by PLAN.

    PLAN is a file that 'sectum plan -o' wrote. The inputs are those of --input-file; an input that is not given is made
    of seeded random numbers. Weights that the plan streams lie sealed outside the enclave: if anyone changes, moves or
    replaces them there, the run ends with exit code 21. So it does if anyone changes, repeats or cuts what crosses
    between the enclaves of a plan for several.

    Where a plan stores weights as int8, the network also runs once without it, outside the enclave. The result states
    the largest difference between the outputs.
    """
    from sectum.cli.input_file import archive_of
    from sectum.cli.plan.chain import read_any
    from sectum.cli.plan.once import difference, outputs_of
    from sectum.cli.plan.planning import is_plan, make_plan

    if output is not None:
        check_writable(output)
    values = {name: given for name, given in inputs.items() if not isinstance(given, tuple)}
    shapes = {name: given for name, given in inputs.items() if isinstance(given, tuple)}
    if is_plan(model):
        if epc_bytes is not None or batch is not None or shapes or threads != 1:
            raise UsageError("the plan says the EPC, the batch, the shapes and the threads: leave these options out")
        result: PlanResult | ChainResult = read_any(Path(model))
    else:
        shapes = {name: given.shape for name, given in values.items()} | shapes
        result = make_plan(model, enclave=enclave, epc_bytes=epc_bytes, batch=batch, inputs={**shapes}, threads=threads)
    found = outputs_of(result, values, deadline_s)
    off = None
    if result.planned.changes_outputs:
        off = difference(found, outputs_of(result, values, deadline_s, planned=False))
    if output is not None:
        write_file(output, archive_of(found))
    if as_json:
        print_json(_to_json(result, found, off))
        return
    _show(result, found, off)


def _enclaves(result: PlanResult | ChainResult) -> int:
    return 1 if result.plan.chain is None else len(result.plan.chain.enclaves)


def _to_json(
    result: PlanResult | ChainResult, found: dict[str, NDArray[np.generic]], off: Difference | None
) -> dict[str, Any]:
    import numpy as np

    return {
        "model": result.source.name,
        "epc_bytes": result.plan.epc_bytes,
        "enclaves": _enclaves(result),
        "stages": len(result.planned.stages),
        "opened_bytes": result.planned.opened_bytes,
        "largest_difference": None if off is None else off.in_json,
        "outputs": {
            name: {
                "shape": list(value.shape),
                "dtype": value.dtype.name,
                "sha256": hashlib.sha256(np.ascontiguousarray(value).data).hexdigest(),
            }
            for name, value in found.items()
        },
    }


def _show(result: PlanResult | ChainResult, found: dict[str, NDArray[np.generic]], off: Difference | None) -> None:
    import numpy as np

    how = "as it is"
    if not result.planned.as_it_is:
        how = f"in {plural(len(result.planned.stages), 'stage')}, {format_bytes(result.planned.opened_bytes)} opened"
    where = f"softepc with an EPC of {format_bytes(result.plan.epc_bytes)}"
    if (count := _enclaves(result)) > 1:
        where = f"{count} enclaves of softepc, each with an EPC of at most {format_bytes(result.plan.epc_bytes)}"
    paragraph(f"{result.source.name} ran once in {where}, {how}.")
    say("")
    entries = []
    for name, value in found.items():
        flat = value.ravel()
        largest = ""
        if value.dtype.kind == "f" and flat.size:
            order = np.argsort(flat)[::-1][:_SHOWN]
            largest = "largest: " + "  ".join(f"{index}: {flat[index]:.4g}" for index in order.tolist())
        entries.append((printable(name, limit=60), f"{value.dtype.name} {'x'.join(map(str, value.shape))}", largest))
    rows(entries)
    if off is not None:
        say("")
        paragraph(f"Weights are int8: {_apart(off)}.")


def _apart(off: Difference) -> str:
    if math.isinf(off.largest):
        return "outputs have other shapes than without a plan, or other values that are infinite or no numbers"
    share = f", {percent(off.largest / off.of)} of the largest value" if off.of else ""
    return f"outputs differ from those without a plan by {off.largest:.3g} at most{share}"
