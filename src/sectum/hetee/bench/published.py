"""HETEE's published numbers, as the paper prints them or as they were read off its figures.

``hetee_figures.csv`` holds figures 7 and 8 and table III of Zhu et al., IEEE S&P 2020, doi
10.1109/SP40000.2020.00054: 7a, 8a and table III are of inference, 7b and 8b of training. Its last column says which
numbers are printed, and how precisely the others were read. The paper does not define its overheads, but its numbers
show the definitions: throughput overhead is baseline / HETEE - 1, which turns figure 7a into table III; latency
overhead is (encryption + transfer) / (preprocess + compute), which turns the bars of figure 8a into their labels.
`overheads` computes ours in the same way.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from sectum.hetee.worker.accelerators.published import Task

ON = "Zhu et al., IEEE S&P 2020, Fig. 7a and 8a, GTX TITAN X"
FIGURES: dict[Task, str] = {"inference": "a", "training": "b"}
"""Which part of figures 7 and 8 is of which task."""
BATCHES = (4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Published:
    """One cell of figures 7 and 8.

    Attributes:
        throughput_overhead_pct: throughput overhead of HETEE over its plain baseline, in percent.
        latency_overhead_pct: latency overhead, in percent; printed in the paper.
        preprocess_ms: preprocessing of one batch; this and the next two were read off to about 4 ms. For training it
            is what is left of total / (1 + latency overhead).
        compute_ms: computing one batch on the GPU.
        encryption_and_transfer_ms: time that HETEE adds to a batch.
    """

    throughput_overhead_pct: float
    latency_overhead_pct: float
    preprocess_ms: float
    compute_ms: float
    encryption_and_transfer_ms: float


@cache
def _rows() -> dict[tuple[str, str, int, int, str], dict[str, float]]:
    found: dict[tuple[str, str, int, int, str], dict[str, float]] = defaultdict(dict)
    with (files(__package__) / "hetee_figures.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = row["source"], row["model"], int(row["batch"]), int(row["accelerators"]), row["system"]
            found[key][row["metric"]] = float(row["value"])
    return dict(found)


def networks() -> tuple[str, ...]:
    """The five networks, in the paper's order."""
    return tuple(dict.fromkeys(model for source, model, *_ in _rows() if source == "Fig. 8a"))


def published(network: str, batch: int, task: Task = "inference") -> Published:
    """HETEE's numbers for a network and a batch size, with one GPU.

    Args:
        network: one of `networks`.
        batch: one of `BATCHES`.
        task: what was measured.
    """
    part = FIGURES[task]
    throughput, latency = (_rows()[f"Fig. {figure}{part}", network, batch, 1, "HETEE"] for figure in (7, 8))
    if task == "training":
        worked_ms = latency["total_ms"] / (1 + latency["latency_overhead_pct"] / 100)
        rest_ms = worked_ms - latency["compute_ms"], latency["total_ms"] - worked_ms
        latency = latency | dict(zip(("preprocess_ms", "encryption_and_transfer_ms"), rest_ms, strict=True))
    return Published(
        throughput["throughput_overhead_pct"],
        latency["latency_overhead_pct"],
        latency["preprocess_ms"],
        latency["compute_ms"],
        latency["encryption_and_transfer_ms"],
    )


def table_3(network: str, batch: int, accelerators: int, system: str = "HETEE") -> float | None:
    """Throughput over that of the baseline with one GPU: table III, batches 4, 8 and 16, 1, 2 and 4 GPUs, two digits.

    Args:
        network: one of `networks`.
        batch: number of images.
        accelerators: number of GPUs.
        system: ``HETEE`` or ``baseline``.

    Returns:
        None where the table has no number.
    """
    cell = _rows().get(("Table III", network, batch, accelerators, system), {})
    return cell.get("throughput_vs_baseline_1_accelerator")


def relative_throughput(network: str, batch: int) -> float:
    """HETEE's throughput with one GPU as a share of its baseline's: table III, batches 4, 8 and 16, two digits."""
    found = table_3(network, batch, 1)
    assert found is not None
    return found
