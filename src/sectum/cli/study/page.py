"""Prints the study on a terminal and as a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from sectum.cli.render.figures import count, number
from sectum.cli.render.show import paragraph, rows, say
from sectum.cli.study.words import ObservationText

PICTURES = "images/study"
"""Where the page looks for pictures."""


def print_study(about: Mapping[str, Any], observations: Sequence[ObservationText]) -> None:
    """Print observations for people."""
    for observation in observations:
        click.secho(f"{observation.title}  [{observation.name}]", bold=True)
        paragraph(f"{observation.text} {observation.consequence}".replace("`", "").strip())
        if observation.table:
            flush = range(observation.names, len(observation.header))
            rows([(*row, "") for row in observation.table], right=flush, header=(*observation.header, ""))
        say("")
    paragraph(_origin(about))


def page(about: Mapping[str, Any], observations: Sequence[ObservationText]) -> str:
    """Write observations as Markdown, each with the command that prints it."""
    parts = [_HEAD, _origin(about)]
    for observation in observations:
        parts += [f"## {observation.title}", observation.text]
        if observation.table:
            rule = ["---"] * observation.names + ["---:"] * (len(observation.header) - observation.names)
            lines = [observation.header, rule, *observation.table]
            parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
        if observation.consequence:
            parts.append(observation.consequence)
        if observation.picture:
            parts.append(f"![{observation.title}]({PICTURES}/{observation.picture}.png)")
        parts.append(f"`sectum study show --only {observation.name}`")
    return "\n\n".join([*parts, _TAIL]) + "\n"


def _origin(about: Mapping[str, Any]) -> str:
    places = [
        f"{machine['cpu_model']}, {machine['kernel']}, ONNX Runtime {machine['onnxruntime']}, {machine['date'][:10]}"
        for machine in about["machines"]
    ]
    machines = "; ".join(dict.fromkeys(places))
    return (
        f"{count(about['cases'])} cases with {count(about['runs'])} runs in the software enclave, measured in "
        f"{number(about['minutes'])} minutes ({machines}). {count(about['failures'])} cases failed, "
        f"{count(about['unequal'])} runs had other outputs than natively, {count(about['unsettled'])} had not settled "
        "when sampling began. Milliseconds are those of a machine on which the reference kernels take "
        f"{number(about['products_ms'])} ms (GEMM) and {number(about['sums_ms'])} ms (reduction). Numbers are measured "
        "unless they are called simulated."
    )


_HEAD = """\
# How latency depends on the working set and the EPC

This page is generated from the measurements in `data/study` by `sectum study show --markdown > docs/study.md`. Each
section ends with the command that prints it alone. `tests/unit/lab/study/test_observations.py` tests each observation
on the same data.

The networks are synthetic, so that memory and computation can be varied separately. *Weights*: convolutions of 1x1 on
small maps, each with a matrix of 1 MiB that is its own or shared. The number of matrices sets the memory; the number
of convolutions and the size of the maps set the computation. *Maps*: cheap operators on maps of 1 MiB, all of which
are kept and added up in the end. The number of maps sets the memory, the number of operators on each sets the
computation. The *working set* is the pages that one inference touches, counted by the pager. An inference is
*over-committed*, or *pages*, where it loads more than 0.1 % of its working set in the steady state."""

_TAIL = """\
## Measure it again

```
sectum study run --folder mine --cpu 1     # about ten minutes; may be stopped and started again
sectum study show mine --pictures pictures
```

Latencies are taken as everywhere in Sectum: as ratios to reference kernels that run before and after each inference
(`docs/adr/0004-two-reference-kernels.md`). Outputs are compared bit for bit with the native ones. Runs have the
columns of `docs/dataset.md`; the columns that describe a network are in `sectum.lab.study.store.schema`."""
