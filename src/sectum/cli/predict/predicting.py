"""From the command line's options to a prediction: what `predict` and `report` share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sectum import __version__
from sectum.cli.options import Inputs
from sectum.cli.predict.source import Source
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.enclave.profile import Profile
    from sectum.predict import Predictor
    from sectum.predict.prediction import Advice, Prediction
    from sectum.predict.prepared import Prepared


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of a prediction."""

    model: str
    enclave: str = "softepc"
    epc_bytes: int | None = None
    batch: int | None = None
    inputs: Inputs = field(default_factory=dict)
    threads: int = 1
    native_ms: float | None = None
    strict: bool = False


@dataclass(frozen=True)
class PredictionResult:
    """A prediction, and what it was made from. Its layers have the names that they have in the model."""

    request: Request
    source: Source
    profile: Profile
    predictor: Predictor
    prepared: Prepared
    prediction: Prediction

    def advice(self) -> list[Advice]:
        """Compute what would make the inference cheaper."""
        from sectum.plan.advice import advise

        return advise(self.predictor, self.prepared, self.prediction, self.profile, self.source.at_batch)

    def to_json(self, advice: list[Advice], plan: dict[str, Any] | None) -> dict[str, Any]:
        """Give the prediction as JSON types, with its advice, its best plan as JSON types, and its source."""
        from sectum.cli.predict.advice import to_json

        return {
            **self.prediction.to_json(),
            "advice": [to_json(item) for item in advice],
            "plan": plan,
            "source": {"model": self.request.model, "sha256": self.source.sha256},
            "sectum": __version__,
        }


def load_profile(name: str, epc_bytes: int | None) -> Profile:
    """Read an enclave profile; ``epc_bytes`` replaces its EPC size.

    Raises:
        UsageError: no such profile, or an EPC size for a profile without EPC.
        ArtefactInvalid: the profile's file is damaged.
    """
    from sectum.enclave import profile as profiles

    found = profiles.load(name)
    if epc_bytes is None:
        return found
    if found.epc_bytes is None:
        raise UsageError(f"'{found.name}' has no EPC: leave --epc out, or choose another --enclave")
    return found.with_epc(epc_bytes)


def predict(request: Request, source: Source | None = None) -> PredictionResult:
    """Make the requested prediction, of the source if it is there already."""
    from sectum.predict import load_predictor
    from sectum.predict.grade import require_inside

    source = source or Source(request.model, batch=request.batch, inputs=request.inputs)
    profile = load_profile(request.enclave, request.epc_bytes)
    predictor = load_predictor()
    native_source = "predicted" if request.native_ms is None else "given"
    predictor.with_measured_costs(profile, request.threads, native_source)  # refuses unknown costs before long work
    made = []
    for graph in source.graphs:
        prepared = predictor.prepare(graph, threads=request.threads, native_ms=request.native_ms)
        if request.strict:
            require_inside(prepared)
        made.append((predictor.in_enclave(prepared, profile), prepared))
    slowest, prepared = max(made, key=lambda pair: pair[0].latency_ms)
    prediction = _spanning([one for one, _ in made], slowest) if made[1:] else slowest
    prediction = replace(prediction, model=source.name, notes=(*prediction.notes, *source.notes))
    return PredictionResult(request, source, profile, predictor, prepared, prediction)


def _spanning(predictions: list[Prediction], slowest: Prediction) -> Prediction:
    """Prediction of the slowest choice, whose interval and probability cover those of the others."""
    from sectum.predict.prediction import GUESS, Grade, Interval

    low, high = (bound(one.latency_ms for one in predictions) for bound in (min, max))
    return replace(
        slowest,
        interval_ms=Interval(
            min(one.interval_ms.low for one in predictions), max(one.interval_ms.high for one in predictions)
        ),
        grade=Grade(
            GUESS, "the values of the inputs decide which branches run", min(p.grade.inside_share for p in predictions)
        ),
        notes=(
            *slowest.notes,
            f"the values of the inputs choose one of {len(predictions)} ways through the network, which take "
            f"{low:.3g} to {high:.3g} ms; everything but the interval is that of the slowest",
        ),
    )
