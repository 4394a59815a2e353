"""From the command line's options to the question that `sectum.plan.advising` answers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sectum.cli.options import Inputs
from sectum.cli.predict.source import Source
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.enclave.profile import Profile
    from sectum.plan.advising import Question, Setup
    from sectum.plan.latency import ChainedLatency, LatencyModel

_RESOLUTION_STEP = 16
_LEAST_RESOLUTION = 0.5
"""Of the present one."""
_WIDTHS = tuple(step / 20 for step in range(19, 4, -1))


def source_of(model: str, *, batch: int | None, inputs: Inputs) -> Source:
    """The network as it runs now.

    Raises:
        UsageError: values of inputs are given.
    """
    if not all(isinstance(given, tuple) for given in inputs.values()):
        raise UsageError("advice is for all values of the inputs: give shapes, such as --input image=1x3x224x224")
    return Source(model, batch=batch, inputs=inputs)


def question_about(
    source: Source,
    profile: Profile,
    chained: ChainedLatency,
    *,
    threads: int,
    most_threads: int | None,
    most_enclaves: int,
) -> Question:
    """What may change of a network.

    Args:
        source: the network.
        profile: the enclave that it runs in.
        chained: predicts it in several enclaves, and in one with and without a plan.
        threads: that it runs with.
        most_threads: that it may run with; None for the processors that this process may use.
        most_enclaves: that may share it.

    Raises:
        ModelError: the network cannot be used.
    """
    from sectum.plan.advising import BATCH, ENCLAVES, PLAN, RESOLUTION, THREADS, WIDTH, Question, Setup
    from sectum.predict.method import batch_of
    from sectum.zoo import Architecture

    batch = batch_of(source.graph)
    network = source.network if source.from_zoo else None
    resolution = network.resolution if isinstance(network, Architecture) else None
    base = Setup(batch=batch, threads=threads, epc_bytes=profile.epc_bytes, resolution=resolution)
    values: dict[str, Any] = {THREADS: _doubled(threads, most_threads or len(os.sched_getaffinity(0)))}
    if profile.epc_bytes is not None:
        values[PLAN] = (True,)
        values[ENCLAVES] = range(2, most_enclaves + 1)
    if source.from_zoo or not source.inputs:
        values[BATCH] = range(batch - 1, 0, -1)
    if resolution is not None:
        largest = (resolution - 1) // _RESOLUTION_STEP * _RESOLUTION_STEP
        values[RESOLUTION] = range(largest, int(_LEAST_RESOLUTION * resolution) - 1, -_RESOLUTION_STEP)
        values[WIDTH] = _WIDTHS

    def models(setup: Setup) -> LatencyModel:
        if setup.enclaves > 1:
            return chained.at_most(setup.enclaves)
        return chained.planned if setup.planned else chained.planned.unplanned

    return Question(
        base=base,
        networks=lambda setup: source_at(source, setup, base).graph,
        profile=profile,
        models=models,
        values=values,
    )


def source_at(source: Source, setup: Setup, base: Setup) -> Source:
    """The network with the batch, the resolution and the width of a setup."""
    if (setup.batch, setup.resolution, setup.width) == (base.batch, base.resolution, base.width):
        return source
    if setup.resolution is None:
        return Source(source.text, batch=setup.batch)
    from sectum.zoo.lowering import INPUT

    shape = (setup.batch, 3, setup.resolution, setup.resolution)
    return Source(source.text, inputs={INPUT: shape}, width=setup.width)


def _doubled(threads: int, most: int) -> list[int]:
    """Numbers of threads to try: twice as many, again and again, and the most."""
    found = []
    while (threads := 2 * threads) < most:
        found.append(threads)
    return [*found, most] if threads // 2 < most else found
