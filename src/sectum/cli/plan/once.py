"""One inference of a plan, with given or seeded inputs, and how far its outputs are from those of its network."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sectum.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from sectum.cli.plan.chain import ChainResult
    from sectum.cli.plan.planning import PlanResult

_DEADLINE_S = 600.0


@dataclass(frozen=True, slots=True)
class Difference:
    """How far outputs are from those of the network without a plan.

    Attributes:
        largest: absolute difference of two values; infinite where shapes differ, or where only one of them is finite.
        of: the largest absolute value of that output without a plan.
    """

    largest: float
    of: float

    @property
    def in_json(self) -> float:
        """The largest difference as JSON can say it, which has no infinity."""
        return min(self.largest, sys.float_info.max)


def outputs_of(
    result: PlanResult | ChainResult,
    values: Mapping[str, NDArray[np.generic]],
    deadline_s: float,
    *,
    planned: bool = True,
) -> dict[str, NDArray[np.generic]]:
    """Run a plan once in its enclaves, or its network outside.

    Args:
        result: the plan.
        values: of inputs; others are made of seeded random numbers.
        deadline_s: seconds that it may take.
        planned: whether to follow it; else the network runs outside an enclave.

    Raises:
        UsageError: there is no such input, or it has another shape.
        EnclaveError: it cannot run there; the message says why.
    """
    from sectum.enclave.runners.native import NativeRunner
    from sectum.enclave.runners.runner import Job
    from sectum.measure.input_ranges import input_ranges

    model = result.source.model
    expected = {name: model.graph.tensors[name] for name in model.graph.inputs}
    for name, value in values.items():
        if name not in expected:
            raise UsageError(f"the model has no input '{name}': it has {', '.join(expected)}")
        if value.shape != expected[name].shape:
            raise UsageError(f"input '{name}' has shape {value.shape}, and the plan is for {expected[name].shape}")
    given = {name: value.astype(expected[name].dtype, copy=False) for name, value in values.items()}
    with result.streams() if planned else nullcontext() as streams:
        job = Job(
            model=b"" if streams is not None else model.bound_bytes(),
            epc_bytes=result.plan.epc_bytes if planned else None,
            threads=result.plan.threads,
            input_ranges=input_ranges(model.graph),
            inputs={**model.feeds, **given},
            deadline_s=deadline_s,
            streams=streams,
        )
        runner = result.runner() if planned else NativeRunner()
        with runner.start(job) as session:
            return session.outputs()


def difference(found: Mapping[str, NDArray[np.generic]], expected: Mapping[str, NDArray[np.generic]]) -> Difference:
    """The largest difference between outputs, over all of them. Values that are alike and not finite do not count."""
    import numpy as np

    most = Difference(0.0, 0.0)
    for name, value in expected.items():
        wide, other = value.astype(np.float64), found[name].astype(np.float64)
        if wide.shape != other.shape:  # how many boxes a detector finds depends on its weights
            return Difference(np.inf, 0.0)
        differ = (wide != other) & ~(np.isnan(wide) & np.isnan(other))
        if differ.any():
            off = np.nan_to_num(np.abs(other[differ] - wide[differ]), nan=np.inf, posinf=np.inf)
            finite = np.abs(wide[np.isfinite(wide)])
            most = max(most, Difference(float(off.max()), float(finite.max(initial=0))), key=lambda one: one.largest)
    return most


def measured_difference(result: PlanResult | ChainResult) -> float | None:
    """Run a plan that changes outputs, and its network, once with the same seeded inputs; None for other plans.

    Raises:
        EnclaveError: one cannot run; the message says why.
    """
    if not result.planned.changes_outputs:
        return None
    found = outputs_of(result, {}, _DEADLINE_S)
    return difference(found, outputs_of(result, {}, _DEADLINE_S, planned=False)).in_json
