"""From the command line's options to a search, with what it is compared with and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sectum import __version__
from sectum.errors import SearchError

if TYPE_CHECKING:
    from sectum.cli.render.progress import Progress
    from sectum.enclave.profile import Profile
    from sectum.measure.measurement import Measurement
    from sectum.plan.search import Found, SearchResult
    from sectum.plan.search.blind import Choice
    from sectum.predict import Predictor

_MEASURING_S = 60
_TOLD = ("bound_ms", "space", "objective", "sampler", "seed", "batch", "threads", "plans")
"""Fields of a request that the JSON repeats."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of a search; see `sectum.plan.search.search`."""

    bound_ms: float
    space: str = "mobilenet_v3"
    enclave: str = "softepc"
    epc_bytes: int | None = None
    objective: str = "synflow"
    trials: int = 200
    batch: int = 1
    threads: int = 1
    plans: bool = False
    sampler: str = "nsga2"
    seed: int = 0
    storage: str | None = None
    study: str = "sectum"
    workers: int = 1

    def options(self) -> dict[str, Any]:
        """Those that a search and the one that it is compared with share."""
        shared = ("objective", "trials", "batch", "threads", "sampler", "seed", "workers")
        return {name: getattr(self, name) for name in shared}


@dataclass(frozen=True)
class Measured:
    """A network of the front, or one that was chosen in its place, in the enclave.

    Attributes:
        found: the network.
        in_place_of: name of the one that it was chosen in place of; empty for one of the front.
        predicted_ms: its latency, predicted with the EPC.
        planned: whether it ran by a plan.
        measurement: what was measured.
    """

    found: Found
    in_place_of: str
    predicted_ms: float
    planned: bool
    measurement: Measurement


@dataclass(frozen=True)
class Searched:
    """All that the command prints.

    Attributes:
        request: the options.
        profile: the enclave.
        predictor: whose predictions.
        found: the search.
        choices: for each network of the front the choice without the EPC; None if that was not asked for.
        measurements: of some networks.
        files: ONNX files by name of the network.
        plan_files: files of plans by name of the network.
        why_not_compared: why there was nothing to compare with.
    """

    request: Request
    profile: Profile
    predictor: Predictor
    found: SearchResult
    choices: tuple[Choice, ...] | None = None
    measurements: tuple[Measured, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    plan_files: Mapping[str, str] = field(default_factory=dict)
    why_not_compared: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON types."""
        found, request = self.found, self.request
        data: dict[str, Any] = {
            "kind": "predicted",
            "front": [self._member(name, one) for name, one in self.named_front()],
            "trials": found.trials,
            "seconds": found.seconds,
            "under_bound": found.under_bound,
            "failed": found.failed,
            "first_failure": found.first_failure or None,
            "notes": list(found.notes),
            "enclave": self.profile.name,
            "epc_bytes": self.profile.epc_bytes,
            **{name: getattr(request, name) for name in _TOLD},
            "calibrated": self.predictor.calibration is not None,
            "machine": self.predictor.machine,
            "sectum": __version__,
        }
        if self.choices is not None:
            data["compared"] = [self._choice(one) for one in self.choices]
            data["not_compared"] = self.why_not_compared or None
        if self.measurements:
            data["measured"] = [self._measured(one) for one in self.measurements]
        return data

    def named_front(self) -> list[tuple[str, Found]]:
        """The front with names that are unique: a user's function may give one name to several networks."""
        taken: dict[str, int] = {}
        named = []
        for one in self.found.front:
            name = one.evaluated.name
            count = taken[name] = taken.get(name, 0) + 1
            named.append((name if count == 1 else f"{name}_{count}", one))
        return named

    def _member(self, name: str, one: Found) -> dict[str, Any]:
        numbers = one.evaluated
        return {
            "name": name,
            "latency_ms": numbers.latency_ms,
            "upper_ms": numbers.upper_ms,
            "score": numbers.score,
            "overcommit": numbers.overcommit,
            "overcommit_probability": numbers.probability,
            "working_set_bytes": numbers.working_set_bytes,
            "parameters": dict(one.parameters),
            "file": self.files.get(name),
            "planned": numbers.planned,
            "plan": self.plan_files.get(name),
        }

    @staticmethod
    def _choice(one: Choice) -> dict[str, Any]:
        data: dict[str, Any] = {
            "name": one.aware.evaluated.name,
            "score": one.aware.evaluated.score,
            "without_epc": None,
        }
        if one.blind is not None and one.in_epc is not None:
            data["without_epc"] = {
                "name": one.blind.evaluated.name,
                "score": one.blind.evaluated.score,
                "believed_ms": one.blind.evaluated.latency_ms,
                "latency_ms": one.in_epc.latency_ms,
                "upper_ms": one.in_epc.upper_ms,
                "overcommit": one.in_epc.loads > 0,
                "times": one.times,
                "parameters": dict(one.blind.parameters),
            }
        return data

    @staticmethod
    def _measured(one: Measured) -> dict[str, Any]:
        measurement = one.measurement
        return {
            "name": one.found.evaluated.name,
            "in_place_of": one.in_place_of or None,
            "predicted_ms": one.predicted_ms,
            "planned": one.planned,
            "measured_ms": measurement.latency_ms,
            "loads": measurement.loads,
            "over_committed": measurement.over_committed,
            "kind": measurement.context["kind"],
        }


def run(request: Request, *, compared: bool, measured: int, progress: Progress) -> Searched:
    """Search; then search without the EPC, and measure, if that is asked for."""
    from sectum.cli.predict.predicting import load_profile
    from sectum.plan.search import search
    from sectum.plan.search.blind import without_epc
    from sectum.predict import load_predictor

    profile = load_profile(request.enclave, request.epc_bytes)
    blind_profile = without_epc(profile) if compared else None  # refused before long work
    predictor = load_predictor()
    shared = {**request.options(), "predictor": predictor, "progress": progress}
    found = search(
        request.space, request.bound_ms, profile, plans=request.plans, storage=request.storage, study=request.study,
        **shared,
    )  # fmt: skip
    choices, why_not = None, ""
    if blind_profile is not None:
        choices, why_not = _choices(request, found, profile, blind_profile, shared)
    measurements: tuple[Measured, ...] = ()
    if measured:
        measurements = tuple(_measure(request, profile, predictor, found, choices or (), measured, progress))
    return Searched(request, profile, predictor, found, choices, measurements, why_not_compared=why_not)


def _choices(
    request: Request, found: SearchResult, profile: Profile, blind_profile: Profile, shared: Mapping[str, Any]
) -> tuple[tuple[Choice, ...], str]:
    from sectum.plan.search import search
    from sectum.plan.search.blind import choices

    try:
        blind = search(request.space, request.bound_ms, blind_profile, **shared)
    except SearchError as error:
        return (), str(error)
    predictor = shared["predictor"]
    return choices(
        found.front, blind.front, predictor, profile, batch=request.batch, threads=request.threads
    ), ""  # fmt: skip


def _measure(
    request: Request,
    profile: Profile,
    predictor: Predictor,
    found: SearchResult,
    choices: tuple[Choice, ...],
    count: int,
    progress: Progress,
) -> list[Measured]:
    """Measure networks spread over the front, and beside each the one chosen in its place."""
    from sectum.enclave.runners.softepc import SoftEpcRunner
    from sectum.plan.opening import costs_for
    from sectum.plan.search.measuring import measured
    from sectum.plan.search.plans import Plans

    runner = SoftEpcRunner()
    runner.check()
    plans = Plans(predictor, profile, costs_for(predictor)) if request.plans else None
    front = found.front
    indices = sorted({round(index * (len(front) - 1) / max(1, count - 1)) for index in range(min(count, len(front)))})
    wanted: list[tuple[Found, str, float]] = []
    for index in indices:
        wanted.append((front[index], "", front[index].evaluated.latency_ms))
        other = choices[index] if choices else None
        if other is not None and other.blind is not None and other.in_epc is not None:
            wanted.append((other.blind, front[index].evaluated.name, other.in_epc.latency_ms))
    done = []
    for one, in_place_of, predicted_ms in wanted:
        plan = None
        if plans is not None and one.evaluated.planned:
            plan = plans.of(one.network, batch=request.batch, threads=request.threads)
        measurement = measured(
            one.network, profile, plan, batch=request.batch, threads=request.threads, deadline_s=_MEASURING_S,
            progress=progress,
        )  # fmt: skip
        done.append(Measured(one, in_place_of, predicted_ms, plan is not None, measurement))
    return done


def onnx_file(folder: Path, name: str) -> Path:
    """Where the network of this name is written; a user's names may contain anything."""
    safe = "".join(ch if ch.isascii() and (ch.isalnum() or ch in "-_.") else "_" for ch in name).lstrip(".")
    return folder / f"{safe[:100] or 'network'}.onnx"
