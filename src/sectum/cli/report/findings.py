"""What the report says: the numbers behind the page, and the page made of them."""

from __future__ import annotations

import datetime
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sectum import __version__
from sectum.cli.predict.source import ZOO
from sectum.cli.report.charts import Point
from sectum.cli.report.footprint import Footprint, footprints
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.cli.predict.predicting import Answer, Request
    from sectum.cli.render.progress import Progress
    from sectum.enclave.profile import Profile
    from sectum.measure.latency import Measurement
    from sectum.predict.prediction import Advice, Prediction

CURVE_POINTS = 36
SMALLEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class MeasuredPoint:
    """One measurement that the page shows; ``epc_bytes`` is None outside an enclave."""

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
    """All that the page shows.

    Attributes:
        prediction: the prediction that was asked for.
        profile: the enclave that it is for, with the costs that were used.
        footprints: memory touched up to each layer.
        advice: what would make the inference cheaper.
        curve: predictions at other sizes of EPC, in rising order; empty outside an enclave.
        measured: measurements, if they were asked for.
        source: the network as the command line named it.
        sha256: of the model's file; None where there is none.
        made_at: when, in UTC.
        machine: on which the page was made.
    """

    prediction: Prediction
    profile: Profile
    footprints: tuple[Footprint, ...]
    advice: tuple[Advice, ...]
    curve: tuple[Point, ...]
    measured: tuple[MeasuredPoint, ...]
    source: str
    sha256: str | None
    made_at: str
    machine: str

    @property
    def label(self) -> str:
        """The network's source without the folders of whoever made the page."""
        return self.source if self.source.startswith(ZOO) else Path(self.source).name

    def to_json(self) -> dict[str, Any]:
        """Give the numbers of the page as JSON types."""
        from sectum.cli.predict.advice import to_json as advice_to_json

        return {
            "prediction": self.prediction.to_json(),
            "advice": [advice_to_json(item) for item in self.advice],
            "footprints": [asdict(level) for level in self.footprints],
            "curve": [asdict(point) for point in self.curve],
            "measured": [{"epc_bytes": m.epc_bytes, **m.measurement.as_dict()} for m in self.measured],
            "source": {"model": self.source, "sha256": self.sha256},
            "made_at": self.made_at,
            "sectum": __version__,
        }


def investigate(request: Request, *, measure: bool, deadline_s: float, progress: Progress) -> Findings:
    """Predict, vary the EPC, ask for advice, and measure if that is wanted.

    Args:
        request: what the command line asks for.
        measure: measure too.
        deadline_s: seconds for each measurement.
        progress: told how far it has come.

    Raises:
        SectumError: as for a prediction and a measurement.
    """
    from sectum.cli.measure.measuring import RUNNERS
    from sectum.cli.predict.predicting import predict

    progress("predicting", 0.0)
    answer = predict(request)
    prediction, profile = answer.prediction, answer.profile
    if measure and profile.name not in RUNNERS:
        raise UsageError(
            f"nothing can be measured in '{profile.name}': leave --measure out, or choose --enclave softepc"
        )
    progress("advice", 0.1)
    advice = tuple(answer.advice())
    progress("latency against EPC size", 0.3)
    curve: tuple[Point, ...] = ()
    if profile.epc_bytes is not None:
        for size in epc_sizes(prediction.memory.working_set_bytes, profile.epc_bytes):
            there = answer.predictor.in_enclave(answer.prepared, profile.with_epc(size))
            curve += (Point(size, there.latency_ms, there.interval_ms.low, there.interval_ms.high),)
    measured = _measure(answer, deadline_s, progress) if measure else ()
    return Findings(
        prediction=prediction,
        profile=_as_predicted_with(answer),
        footprints=footprints(answer.prepared.trace, len(prediction.layers)),
        advice=advice,
        curve=curve,
        measured=measured,
        source=request.model,
        sha256=answer.source.sha256,
        made_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine=f"{platform.system()} {platform.release()}, {platform.machine()}",
    )


def epc_sizes(working_set_bytes: int, epc_bytes: int) -> list[int]:
    """Choose sizes of EPC that show the curve: even on a logarithmic axis, and both sides of its step.

    Paging stops at the working set; the interval's step is up to one per cent on either side of it.
    """
    low = max(SMALLEST_BYTES, min(working_set_bytes // 4, epc_bytes // 2))
    high = 2 * max(working_set_bytes, epc_bytes, SMALLEST_BYTES)
    ratio = (high / low) ** (1 / (CURVE_POINTS - 1))
    sizes = {round(low * ratio**index) for index in range(CURVE_POINTS)}
    step = (round(working_set_bytes * factor) for factor in (0.99, 0.995, 1, 1.005, 1.01))
    sizes |= {epc_bytes} | {size for size in step if low < size < high}
    return sorted(sizes)


def _as_predicted_with(answer: Answer) -> Profile:
    """The enclave's profile with the costs that this machine was calibrated to."""
    calibration = answer.predictor.calibration
    if calibration is None or answer.profile.name != "softepc":
        return answer.profile
    return calibration.softepc(answer.profile, answer.request.threads)


def _measure(answer: Answer, deadline_s: float, progress: Progress) -> tuple[MeasuredPoint, ...]:
    """Outside the enclave and in it."""
    from sectum.cli.measure.measuring import measure

    runner = answer.profile.name
    places: list[tuple[str, int | None]] = [("native", None)]
    if runner != "native":
        places.append((runner, answer.profile.epc_bytes))
    points = []
    for index, (name, epc_bytes) in enumerate(places):
        progress(f"measuring in {name}", 0.4 + 0.6 * index / len(places))
        measurement = measure(
            answer.source, name, epc_bytes=epc_bytes, threads=answer.request.threads, deadline_s=deadline_s
        )
        points.append(MeasuredPoint(epc_bytes, measurement))
    return tuple(points)
