"""Spaces and objectives of tests. Objectives are functions of a module, so that other processes can import them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from sectum.zoo import Architecture
from sectum.zoo.elastic import Block, Space, Stage, Stem

SMALL = Space(
    "small",
    Stem((8,), stride=1),
    (
        Stage(Block.PLAIN, (8, 16, 32, 64), depth=(1, 2, 3), kernel=(1, 3, 5), stride=2),
        Stage(Block.PLAIN, (16, 32, 64), depth=(1, 2, 3), kernel=(1, 3), stride=2),
    ),
    resolution=(32, 64),
    classes=10,
)
"""A few hundred networks, each of which is predicted in milliseconds."""


def parameters(network: Architecture) -> float:
    """A score that every test can compute by hand."""
    return float(network.parameters)


def slow_parameters(network: Architecture) -> float:
    """The same, in a time in which a process can be killed."""
    time.sleep(0.02)
    return float(network.parameters)


def slow_parameters_of_two(network: Architecture) -> float:
    """The same, but nothing is scored until two programs do, each in a group of its own."""
    Path(f"scoring-{os.getpgrp()}").touch()
    end_s = time.monotonic() + 120
    while len(list(Path().glob("scoring-*"))) < 2 and time.monotonic() < end_s:
        time.sleep(0.01)
    return slow_parameters(network)


def raises(_network: object) -> float:
    """An objective that has a defect."""
    raise ZeroDivisionError("no pictures")


def nothing(_network: object) -> float:
    """An objective whose training diverged."""
    return float("nan")


def raises_for_some(network: Architecture) -> float:
    """An objective that cannot score every network."""
    if network.parameters % 3 == 0:
        raise ValueError("divisible by three")
    return float(network.parameters)


def small(trial: object) -> Architecture:
    """A space as a function of a trial."""
    suggest = trial.suggest_categorical  # type: ignore[attr-defined]  # Optuna is an extra
    stage = Stage(Block.PLAIN, (suggest("channels", [8, 16, 32]),), depth=(suggest("depth", [1, 2]),), stride=2)
    return Space("written", Stem((8,)), (stage,), resolution=(32,), classes=10).build({})


def broken(_trial: object) -> Architecture:
    """A space whose function has a defect."""
    raise KeyError("depth")
