"""Measures networks that a search found in the software enclave, as they are or by their plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sectum.enclave.profile import Profile
from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.measure.latency import measure
from sectum.measure.measurement import Measurement
from sectum.plan.planned import Planned
from sectum.plan.running import prepared_streams
from sectum.plan.search.network import Network, as_model
from sectum.predict.calibration import stored_references


def measured(
    network: Network,
    profile: Profile,
    plan: Planned | None = None,
    *,
    batch: int = 1,
    threads: int = 1,
    runs: int | None = None,
    deadline_s: float,
    progress: Callable[[str, float], None] = lambda _what, _share: None,
) -> Measurement:
    """Measure one network.

    Args:
        network: as `sectum.plan.search.network` describes.
        profile: the software enclave, with its EPC.
        plan: of this network, that it follows; None to run it as it is.
        batch: images in an inference.
        threads: all of them.
        runs: number of samples; None for as many as a precise result needs.
        deadline_s: stop after so many seconds.
        progress: is told what is being done, and the share that is done.

    Raises:
        EnclaveError: it cannot run there; the message says why.
        OutputsDiffer: the outputs are not those of the native run.
    """
    model = as_model(network, batch)
    streams: AbstractContextManager[Mapping[str, Any] | None] = nullcontext()
    if plan is not None:
        streams = prepared_streams(
            model.bound_bytes(), plan.way.graph, plan.stages, plan.buffers, plan.layout.arena_bytes
        )
    with streams as prepared:
        return measure(
            model,
            SoftEpcRunner(),
            epc_bytes=profile.epc_bytes,
            threads=threads,
            runs=runs,
            deadline_s=deadline_s,
            references=stored_references(),
            streams=prepared,
            progress=progress,
        )
