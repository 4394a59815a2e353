"""The numbers that a report shows."""

from __future__ import annotations

import datetime
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sectum import __version__
from sectum.cli.measure.measuring import RUNNERS
from sectum.cli.measure.measuring import measure as measure_model
from sectum.cli.predict.advice import to_json as advice_to_json
from sectum.cli.predict.best_plan import BestPlan, best_plan
from sectum.cli.predict.predicting import PredictionResult, Request, predict
from sectum.cli.predict.source import ZOO
from sectum.cli.render.progress import Progress
from sectum.errors import UsageError
from sectum.ort.footprint import Footprint, footprints
from sectum.plan.epc_curve import CurvePoint, epc_curve

if TYPE_CHECKING:
    from sectum.enclave.profile import Profile
    from sectum.measure.measurement import Measurement
    from sectum.predict.prediction import Advice, Prediction


@dataclass(frozen=True, slots=True)
class MeasuredPoint:
    """One measurement; ``epc_bytes`` is None outside an enclave."""

    epc_bytes: int | None
    measurement: Measurement

    @property
    def low_ms(self) -> float:
        """Lower end of the 95 % interval."""
        return self.measurement.latency_ms * (1 - (self.measurement.uncertainty or 0.0))

    @property
    def high_ms(self) -> float:
        """Upper end of the 95 % interval."""
        return self.measurement.latency_ms * (1 + (self.measurement.uncertainty or 0.0))


@dataclass(frozen=True)
class Findings:
    """Everything that the report shows.

    Attributes:
        prediction: the requested prediction.
        profile: its enclave, with the costs that were used.
        footprints: memory touched up to each layer.
        advice: what would make the inference cheaper.
        plan: the best plan, where the network pages and a plan helps.
        curve: predictions at other EPC sizes, in rising order; empty outside an enclave.
        measured: measurements, if requested.
        source: the network as the command line named it.
        sha256: of the model's file; None without a file.
        made_at: time in UTC.
        machine: that made the report.
    """

    prediction: Prediction
    profile: Profile
    footprints: tuple[Footprint, ...]
    advice: tuple[Advice, ...]
    plan: BestPlan | None
    curve: tuple[CurvePoint, ...]
    measured: tuple[MeasuredPoint, ...]
    source: str
    sha256: str | None
    made_at: str
    machine: str

    @property
    def label(self) -> str:
        """The network's source, without the folders on the machine that made the report."""
        return self.source if self.source.startswith(ZOO) else Path(self.source).name

    def to_json(self) -> dict[str, Any]:
        """Give the numbers of the report as JSON types."""
        return {
            "prediction": self.prediction.to_json(),
            "advice": [advice_to_json(item) for item in self.advice],
            "plan": None if self.plan is None else self.plan.to_json(),
            "footprints": [asdict(level) for level in self.footprints],
            "curve": [asdict(point) for point in self.curve],
            "measured": [{"epc_bytes": m.epc_bytes, **m.measurement.as_dict()} for m in self.measured],
            "source": {"model": self.source, "sha256": self.sha256},
            "made_at": self.made_at,
            "sectum": __version__,
        }


def gather(request: Request, *, measure: bool, deadline_s: float, progress: Progress) -> Findings:
    """Predict, ask for advice, vary the EPC, and measure if requested.

    Raises:
        SectumError: as for a prediction and a measurement.
    """
    progress("predicting", 0.0)
    result = predict(request)
    prediction, profile, predictor = result.prediction, result.profile, result.predictor
    if measure and profile.name not in RUNNERS:
        raise UsageError(
            f"models cannot be measured in '{profile.name}': leave --measure out, or choose --enclave softepc"
        )
    progress("advice", 0.1)
    advice = tuple(result.advice())
    progress("the best plan", 0.2)
    plan = best_plan(result)
    progress("latency against EPC size", 0.3)
    return Findings(
        prediction=prediction,
        profile=predictor.with_measured_costs(profile, request.threads, prediction.native_source),
        footprints=footprints(result.prepared.trace, len(prediction.layers)),
        advice=advice,
        plan=plan,
        curve=epc_curve(predictor, result.prepared, profile),
        measured=_measure(result, deadline_s, progress) if measure else (),
        source=request.model,
        sha256=result.source.sha256,
        made_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine=f"{platform.system()} {platform.release()}, {platform.machine()}",
    )


def _measure(result: PredictionResult, deadline_s: float, progress: Progress) -> tuple[MeasuredPoint, ...]:
    """Measure outside the enclave and in it."""
    runner = result.profile.name
    places: list[tuple[str, int | None]] = [("native", None)]
    if runner != "native":
        places.append((runner, result.profile.epc_bytes))
    points = []
    for index, (name, epc_bytes) in enumerate(places):
        progress(f"measuring in {name}", 0.4 + 0.6 * index / len(places))
        measurement = measure_model(
            result.source, name, epc_bytes=epc_bytes, threads=result.request.threads, deadline_s=deadline_s
        )
        points.append(MeasuredPoint(epc_bytes, measurement))
    return tuple(points)
