"""From the command line's options to a measurement: what `measure` and `report --measure` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.cli.predict.source import Source
    from sectum.enclave.runners.runner import Runner
    from sectum.measure.measurement import Measurement

RUNNERS = ("native", "softepc", "gramine")


def runner_named(name: str) -> Runner:
    """Make the runner of this name.

    Raises:
        UsageError: there is none.
    """
    from sectum.enclave.runners.gramine import GramineRunner
    from sectum.enclave.runners.native import NativeRunner
    from sectum.enclave.runners.softepc import SoftEpcRunner

    kinds: dict[str, type[Runner]] = {"native": NativeRunner, "softepc": SoftEpcRunner, "gramine": GramineRunner}
    if name not in kinds:
        raise UsageError(f"models cannot be measured in '{name}': choose one of {', '.join(RUNNERS)}")
    return kinds[name]()


def measure(source: Source, runner_name: str, **conditions: Any) -> Measurement:
    """Run a network and time it.

    Raises:
        EnclaveError: it cannot run there; the message says why.
    """
    from sectum.measure.latency import measure as measure_latency
    from sectum.predict.calibration import stored_references

    runner = runner_named(runner_name)
    model = source.model  # first, so that an invalid model is reported before anything that this machine lacks
    runner.check()
    return measure_latency(model, runner, references=stored_references(), inputs=model.feeds, **conditions)
