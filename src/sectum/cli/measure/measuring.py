"""From a command line to a measurement: what `measure` and `report --measure` share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.cli.predict.source import Source
    from sectum.enclave.runners.runner import Runner
    from sectum.measure.latency import Measurement

RUNNERS = ("native", "softepc", "gramine")
POLICIES = ("second-chance", "fifo")


def runner_named(name: str) -> Runner:
    """Make the place to run in.

    Raises:
        UsageError: no model can be run there.
    """
    if name == "native":
        from sectum.enclave.runners.native import NativeRunner

        return NativeRunner()
    if name == "softepc":
        from sectum.enclave.runners.softepc import SoftEpcRunner

        return SoftEpcRunner()
    if name == "gramine":
        from sectum.enclave.runners.gramine import GramineRunner

        return GramineRunner()
    raise UsageError(f"nothing can be measured in '{name}': choose one of {', '.join(RUNNERS)}")


def measure(
    source: Source,
    runner_name: str,
    *,
    epc_bytes: int | None,
    threads: int,
    policy: str = "second-chance",
    as_loaded: bool = False,
    runs: int | None = None,
    deadline_s: float,
) -> Measurement:
    """Run the network where it was asked for, and time it.

    Raises:
        EnclaveError: it cannot run there; the message says why.
    """
    from sectum.measure.latency import measure as measure_latency
    from sectum.predict.calibration import load as load_calibration

    runner = runner_named(runner_name)
    model = source.model  # what is wrong with the model is told before what is missing on the machine
    runner.check()
    calibration = load_calibration()
    return measure_latency(
        model,
        runner,
        epc_bytes=epc_bytes,
        threads=threads,
        policy=policy,
        as_loaded=as_loaded,
        runs=runs,
        deadline_s=deadline_s,
        references=None if calibration is None else calibration.references,
    )
