"""What a campaign measures: a network that is made from a seed, and what names it in a dataset."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sectum import zoo

SAMPLE = "sample"
DIGEST_CHARACTERS = 32
"""Stored of a structure's or topology's digest: no two of ten thousand agree in that many."""


@dataclass(frozen=True, slots=True)
class Task:
    """One network to measure; the same fields always make the same network.

    Attributes:
        source: ``sample``, or the name of a published network.
        family: to draw from; of a published network, the family that it belongs to.
        seed: of the draw and of the weights; of the EPC sizes too.
        width: of a published network.
        resolution: of a published network, in pixels; a sample draws its own.
        batch: samples in an inference.
        repeat: 0, or how many times it was measured before.
        threads: of the runtime.
    """

    source: str
    family: str
    seed: int
    width: float
    resolution: int
    batch: int
    repeat: int = 0
    threads: int = 1

    @property
    def key(self) -> str:
        """Names the task within a dataset."""
        if self.source == SAMPLE:
            what = self.family
        elif self.is_program:
            what = self.source
        else:
            what = f"{self.source}:w{self.width:g}:r{self.resolution}"
        threads = f"/t{self.threads}" if self.threads > 1 else ""
        again = f"#{self.repeat}" if self.repeat else ""
        return f"{what}/{self.seed}/b{self.batch}{threads}{again}"

    @property
    def is_program(self) -> bool:
        """Whether it is a `sectum.zoo.Program`, which has neither width nor resolution."""
        return self.family in zoo.program_families()

    def network(self) -> zoo.Architecture | zoo.Program:
        """Make the network."""
        if self.source == SAMPLE:
            return zoo.sample(self.family, random.Random(self.seed))  # noqa: S311 - a network, not a secret
        return zoo.network(self.source, resolution=self.resolution or None, width=self.width, seed=self.seed)


def identity(structure: str, batch: int, threads: int = 1) -> str:
    """Name what two tasks share if they would measure the same thing."""
    return f"{structure[:DIGEST_CHARACTERS]}/b{batch}" + (f"/t{threads}" if threads > 1 else "")


def task_of(row: Mapping[str, Any]) -> Task:
    """Rebuild the task that a row was measured for."""
    resolution = 0 if row["source"] == SAMPLE else row["resolution"]
    repeat = int(row["key"].partition("#")[2] or 0)
    return Task(
        row["source"], row["family"], row["seed"], row["width"], resolution, row["batch"], repeat, row["threads"]
    )
