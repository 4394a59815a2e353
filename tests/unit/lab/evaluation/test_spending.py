"""Which cases count for a type of operator, and for a number of threads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from measured_networks import made_up
from sectum.lab.evaluation.spending import by_operator, by_threads
from sectum.lab.evaluation.truth import truth
from sectum.lab.learners.measured import MeasuredNetwork

CASES = 3
"""Of a made-up network: one natively, two in enclaves."""


def spending(number: int, **times_ms: float) -> MeasuredNetwork:
    """A network with one operator of each type, and how long it takes."""
    changes: dict[str, Any] = {"operator_ms": np.array(list(times_ms.values()))}
    network = made_up(number, **changes)
    vars(network)["features"] = SimpleNamespace(types=tuple(name.replace("_", " ") for name in times_ms))
    return network


def test_networks_count_for_types_that_take_a_tenth_of_their_time():
    """A type's cases are all those of the networks that spend a tenth of their time in it, whatever its variant."""
    networks = [spending(n, Conv=8.0, Slice_steps=0.5, Slice=0.6, Relu=0.9) for n in range(12)]
    networks += [spending(12 + n, Conv=10.0) for n in range(3)]
    found = by_operator(networks, truth(networks))
    assert set(found) == {"Conv", "Slice"}
    assert int(found["Conv"].sum()) == 15 * CASES
    assert int(found["Slice"].sum()) == 12 * CASES
    assert not found["Slice"][12 * CASES :].any()


def test_types_of_few_networks_and_networks_without_times_are_left_out():
    """Nine networks tell nothing of a type, and a network whose operators were not timed tells of none."""
    networks = [*(spending(n, LSTM=1.0) for n in range(9)), made_up(9)]
    assert by_operator(networks, truth(networks)) == {}


def test_threads_have_their_cases():
    """Each number of threads has the cases of its networks, and no other."""
    networks = [made_up(0), made_up(1, threads=2), made_up(2)]
    found = by_threads(networks, truth(networks))
    assert {name: mask.sum() for name, mask in found.items()} == {"1": 2 * CASES, "2": CASES}
