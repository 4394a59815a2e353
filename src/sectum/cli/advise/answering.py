"""The answer to how a network meets a latency bound: predicted, and the best of it measured."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sectum.cli.advise.asking import source_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sectum.cli.predict.source import Source
    from sectum.enclave.runners.relay import Pace
    from sectum.plan.advising import Advised, Choice, Question, Setup
    from sectum.predict.predictor import Predictor

MOST_MEASURED = 3


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
        link: between two enclaves.
        measured: figures of measurements by the place in `shown` of what was measured.
    """

    source: Source
    question: Question
    advised: Advised
    bound_ms: float
    surely: bool
    enclave: str
    predictor: Predictor
    link: Pace
    measured: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def shown(self) -> tuple[Choice, ...]:
        """What meets the bound, the cheapest first, or what is nearest."""
        if self.advised.choices or self.advised.nearest is None:
            return self.advised.choices
        return (self.advised.nearest,)

    def speedup(self, choice: Choice) -> float:
        """How many times less an inference takes than now."""
        return self.advised.now.estimate.latency_ms / choice.estimate.latency_ms


def measured(answer: Answer, *, runs: int | None, deadline_s: float, progress: Callable[[str, float], None]) -> Answer:
    """Measure the best few in the software enclave.

    Raises:
        EnclaveError: one cannot run there; the message says why.
    """
    found: dict[int, dict[str, Any]] = {}
    for place, choice in enumerate(answer.shown[:MOST_MEASURED]):
        found[place] = _figures(answer, choice.setup, {"runs": runs, "progress": progress}, deadline_s)
    return replace(answer, measured=found)


def _figures(answer: Answer, setup: Setup, conditions: dict[str, Any], deadline_s: float) -> dict[str, Any]:
    """What ``sectum measure --json`` says of a setup."""
    from sectum.cli.measure.measuring import measure
    from sectum.cli.plan.planning import measure_plan, plan_for

    source = source_at(answer.source, setup, answer.question.base)
    if setup.enclaves > 1:
        from sectum.cli.plan.chain import chain_for
        from sectum.cli.plan.chain_measuring import measured as measured_chain

        profile = answer.question.profile.with_epc(setup.epc_bytes)
        found = chain_for(
            source, profile, setup.threads, enclave=answer.enclave, enclaves=setup.enclaves, goal="latency",
            link=answer.link,
        )  # fmt: skip
        figures = measured_chain(found, conditions, deadline_s)
        return figures | {"resident_bytes": max(one["resident_bytes"] for one in figures["enclaves"])}
    conditions = {**conditions, "deadline_s": deadline_s}
    if setup.planned and setup.epc_bytes is not None:
        profile = answer.question.profile.with_epc(setup.epc_bytes)
        return measure_plan(plan_for(source, profile, setup.threads, enclave=answer.enclave), conditions).as_dict()
    return measure(source, answer.enclave, epc_bytes=setup.epc_bytes, threads=setup.threads, **conditions).as_dict()
