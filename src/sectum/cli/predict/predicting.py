"""From a command line to a prediction with its advice: what `predict`, `report` and `measure` share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sectum import __version__
from sectum.cli.options import InputShapes
from sectum.cli.predict.source import Source
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.enclave.profile import Profile
    from sectum.predict import Predictor
    from sectum.predict.prediction import Advice, Prediction
    from sectum.predict.prepared import Prepared


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the options of a prediction say."""

    model: str
    enclave: str
    epc_bytes: int | None
    batch: int | None
    inputs: InputShapes
    threads: int
    native_ms: float | None
    strict: bool


@dataclass(frozen=True)
class Answer:
    """A prediction and what it was made with. Its layers go by the names that they have in the model."""

    request: Request
    source: Source
    profile: Profile
    predictor: Predictor
    prepared: Prepared
    prediction: Prediction

    def advice(self) -> list[Advice]:
        """Compute what would make the inference cheaper."""
        from sectum.plan.advice import advise

        return advise(self.predictor, self.source.at_batch, self.prediction, self.profile)

    def to_json(self, advice: list[Advice]) -> dict[str, Any]:
        """Give the prediction as JSON types, with its advice and where it comes from."""
        from sectum.cli.predict.advice import to_json

        return {
            **self.prediction.to_json(),
            "advice": [to_json(item) for item in advice],
            "source": {"model": self.request.model, "sha256": self.source.sha256},
            "sectum": __version__,
        }


def load_profile(name: str, epc_bytes: int | None) -> Profile:
    """Read the enclave's profile, with another size of EPC where one is given.

    Raises:
        UsageError: no such profile, or an EPC for one that has none.
        ArtefactInvalid: the profile's file is damaged.
    """
    from sectum.enclave import profile as profiles

    found = profiles.load(name)
    if epc_bytes is None:
        return found
    if found.epc_bytes is None:
        raise UsageError(f"'{found.name}' has no EPC: leave --epc out, or choose another --enclave")
    return found.with_epc(epc_bytes)


def predict(request: Request) -> Answer:
    """Make the prediction that was asked for."""
    from sectum.ort.costs import require_supported
    from sectum.predict import load_predictor

    source = Source(request.model, batch=request.batch, inputs=request.inputs)
    profile = load_profile(request.enclave, request.epc_bytes)
    graph = source.graph
    if request.strict:
        require_supported(graph)
    predictor = load_predictor()
    prepared = predictor.prepare(graph, threads=request.threads, native_ms=request.native_ms)
    prediction = predictor.in_enclave(prepared, profile)
    return Answer(request, source, profile, predictor, prepared, replace(prediction, model=source.name))
