"""Published times for paced accelerators.

``published_times.csv`` holds the times of preprocessing and computing one batch on HETEE's GPU (GTX TITAN X). They were
read off the bars of figures 8a (inference) and 8b (training) of Zhu et al., IEEE S&P 2020, doi
10.1109/SP40000.2020.00054, to about 4 ms. Figure 8b shows preprocessing and encryption as one: preprocessing of a
training step is what the printed overhead leaves of the total: total / (1 + overhead) - compute.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from typing import Literal

from sectum.errors import UsageError
from sectum.hetee.data_plane.messages import Pace

Task = Literal["inference", "training"]

SOURCE = "Zhu et al., IEEE S&P 2020, Fig. 8a, GTX TITAN X, +-4 ms"
SOURCES: dict[Task, str] = {"inference": SOURCE, "training": SOURCE.replace("8a", "8b")}


@cache
def _times_ms(task: str) -> dict[str, dict[int, tuple[float, float]]]:
    times: dict[str, dict[int, tuple[float, float]]] = {}
    with (files(__package__) / "published_times.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["task"] == task:
                pair = float(row["preprocess_ms"]), float(row["compute_ms"])
                times.setdefault(row["network"], {})[int(row["batch"])] = pair
    return times


def networks() -> tuple[str, ...]:
    """Names of the networks that have published times."""
    return tuple(_times_ms("inference"))


def pace(network: str, batch: int, task: Task = "inference") -> Pace:
    """The published times of a batch, interpolated linearly between published batch sizes.

    Args:
        network: one of `networks`.
        batch: number of images, within the published sizes.
        task: what is done with it.

    Raises:
        UsageError: there are no published times for this network or batch.
    """
    times = _times_ms(task).get(network)
    if times is None:
        raise UsageError(f"no times were published for '{network}': use one of {', '.join(networks())}")
    if not min(times) <= batch <= max(times):
        raise UsageError(f"times were published for batches of {min(times)} to {max(times)}, not for {batch}")
    below, above = max(b for b in times if b <= batch), min(b for b in times if b >= batch)
    share = (batch - below) / (above - below) if above > below else 0.0
    preprocess_ms, compute_ms = (
        low + share * (high - low) for low, high in zip(times[below], times[above], strict=True)
    )
    between = "" if above == below else f", between {below} and {above}"
    return Pace(
        preprocess_us=round(preprocess_ms * 1000),
        compute_us=round(compute_ms * 1000),
        source=f"{SOURCES[task]}: {network}, batch {batch}{between}",
    )
