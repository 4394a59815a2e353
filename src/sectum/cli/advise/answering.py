"""The answer to how a network meets a latency bound: predicted, and the best of it measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sectum import __version__
from sectum.cli.advise.asking import source_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sectum.cli.predict.source import Source
    from sectum.measure.measurement import Measurement
    from sectum.plan.advising import Advised, Choice, Question
    from sectum.predict.predictor import Predictor

MOST_MEASURED = 3
_MEASURED_FIELDS = ("latency_ms", "uncertainty", "loads", "resident_bytes", "outputs_equal_native", "stopped_because")


@dataclass(frozen=True)
class Answer:
    """What meets a bound.

    Attributes:
        source: the network as it runs now.
        question: what may change of it.
        advised: what meets the bound.
        bound_ms: the bound.
        surely: whether the upper end of the interval has to meet it, or else the predicted latency.
        enclave: the profile as the command line named it.
        predictor: that predicted all of it.
        measured: measurements by the place in `shown` of what was measured.
    """

    source: Source
    question: Question
    advised: Advised
    bound_ms: float
    surely: bool
    enclave: str
    predictor: Predictor
    measured: Mapping[int, Measurement] = field(default_factory=dict)

    @property
    def shown(self) -> tuple[Choice, ...]:
        """What meets the bound, the cheapest first, or what is nearest."""
        if self.advised.choices or self.advised.nearest is None:
            return self.advised.choices
        return (self.advised.nearest,)

    def speedup(self, choice: Choice) -> float:
        """How many times less an inference takes than now."""
        return self.advised.now.estimate.latency_ms / choice.estimate.latency_ms

    def to_json(self) -> dict[str, Any]:
        """Give the answer as JSON types."""
        advised = self.advised
        entries = [self._entry(choice, place) for place, choice in enumerate(self.shown)]
        return {
            "kind": "predicted",
            "model": self.source.name,
            "enclave": self.enclave,
            "bound_ms": self.bound_ms,
            "by": "interval" if self.surely else "latency",
            "meets_now": advised.meets,
            "met": advised.meets or bool(advised.choices),
            "now": self._numbers(advised.now),
            "advice": entries if advised.choices else [],
            "nearest": entries[0] if entries and not advised.choices else None,
            "calibrated": self.predictor.calibration is not None,
            "machine": self.predictor.machine,
            "source": {"model": self.source.text, "sha256": self.source.sha256},
            "sectum": __version__,
        }

    def _numbers(self, choice: Choice) -> dict[str, Any]:
        estimate = choice.estimate
        return {
            **asdict(choice.setup),
            "latency_ms": estimate.latency_ms,
            "ms_per_sample": estimate.latency_ms / choice.setup.batch,
            "interval_ms": [estimate.interval_ms.low, estimate.interval_ms.high],
            "native_ms": estimate.native_ms,
            "working_set_bytes": estimate.working_set_bytes,
            "opened_bytes": 0 if estimate.plan is None else estimate.plan.opened_bytes,
        }

    def _entry(self, choice: Choice, place: int) -> dict[str, Any]:
        from sectum.cli.advise.words import changes, command

        base, measured = self.question.base, self.measured.get(place)
        found = None
        if measured is not None:
            found = {name: getattr(measured, name) for name in _MEASURED_FIELDS}
            found["meets"] = measured.latency_ms <= self.bound_ms
        return {
            "changes": list(choice.setup.changed(base)),
            "text": changes(choice.setup, base),
            **self._numbers(choice),
            "speedup": self.speedup(choice),
            "command": command(self, choice),
            "measured": found,
        }


def measured(answer: Answer, *, runs: int | None, deadline_s: float, progress: Callable[[str, float], None]) -> Answer:
    """Measure the best few in the software enclave.

    Raises:
        EnclaveError: one cannot run there; the message says why.
    """
    from sectum.cli.measure.measuring import measure
    from sectum.cli.plan.planning import measure_plan, plan_for

    conditions = {"runs": runs, "deadline_s": deadline_s, "progress": progress}
    found = {}
    for place, choice in enumerate(answer.shown[:MOST_MEASURED]):
        setup = choice.setup
        source = source_at(answer.source, setup, answer.question.base)
        if setup.planned and setup.epc_bytes is not None:
            profile = answer.question.profile.with_epc(setup.epc_bytes)
            found[place] = measure_plan(plan_for(source, profile, setup.threads, enclave=answer.enclave), conditions)
        else:
            found[place] = measure(
                source, answer.enclave, epc_bytes=setup.epc_bytes, threads=setup.threads, **conditions
            )
    return replace(answer, measured=found)
