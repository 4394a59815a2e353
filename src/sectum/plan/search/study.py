"""A search by Optuna: the fastest architectures for each score under a bound on latency in an enclave."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sectum.enclave.profile import Profile
from sectum.errors import SpaceInvalid, UsageError
from sectum.extras import require
from sectum.plan.opening import costs_for
from sectum.plan.search.evaluating import Evaluated, Evaluators, Failure, Setting, said
from sectum.plan.search.front import Found, Front
from sectum.plan.search.network import Network
from sectum.plan.search.objectives import Objective, at_a_time, function, named
from sectum.plan.search.store import ATTRIBUTE, DIRECTIONS, Store
from sectum.predict import Predictor, load_predictor
from sectum.zoo import space_file
from sectum.zoo.elastic import Space

if TYPE_CHECKING:
    import optuna

Draw = Callable[["optuna.trial.BaseTrial"], Network]
"""A user's space: from a trial, of which it asks parameters, to a network."""
SAMPLERS = ("nsga2", "tpe", "random")
_LARGEST_TRIALS = 1_000_000
_CONSTRAINT = "upper_ms"
_NUMBERS = ("latency_ms", "upper_ms", "working_set_bytes", "loads", "probability")
"""Of a candidate: stored with its trial."""
_FIRST = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Networks that are looked at first: all their sizes lie so far between the least and the largest choices."""
_NOT_SCORED = float("-inf")
"""Stored as the score of an architecture over the bound: its score is not looked up."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        front: architectures under the bound of which no other is both faster and of a higher score, the fastest first.
        trials: of the study, also those of earlier runs.
        under_bound: of these, how many are predicted under the bound.
        failed: of these, how many could not be made, predicted or scored.
        first_failure: what the first of them failed by; empty if none failed.
        seconds: that this run took.
        evaluated: every trial's numbers, in the order of the trials.
        complete: whether the trials ended because every architecture of the space has been looked at.
        notes: what the objective says about what it was given.
    """

    front: tuple[Found, ...]
    trials: int
    under_bound: int
    failed: int
    first_failure: str
    seconds: float
    evaluated: tuple[Evaluated, ...] = field(repr=False)
    complete: bool = False
    notes: tuple[str, ...] = ()


def search(
    space: Space | Draw | str,
    bound_ms: float,
    profile: Profile,
    *,
    objective: Objective | str = "synflow",
    trials: int = 200,
    batch: int = 1,
    threads: int = 1,
    plans: bool = False,
    workers: int = 1,
    sampler: str = "nsga2",
    seed: int = 0,
    storage: str | None = None,
    study: str = "sectum",
    predictor: Predictor | None = None,
    progress: Callable[[str, float], None] = lambda _what, _share: None,
) -> SearchResult:
    """Search architectures whose predicted latency stays under a bound at the upper end of its 90 % interval.

    Args:
        space: a `sectum.zoo.elastic.Space`; a function from an Optuna trial to a network, see
            `sectum.plan.search.network`; or, as text, the name of a space that is shipped, the path of a TOML file, or
            ``module:function``.
        bound_ms: milliseconds that no interval may exceed.
        profile: the enclave.
        objective: a function from a network to a score, or a name, see `sectum.plan.search.objectives`.
        trials: of the study in all. A study that has so many already gets no more.
        batch: images in an inference.
        threads: compute threads of an inference.
        plans: a network that pages runs by its best plan, if that is faster than without.
        workers: processes; with more than one, the caller's program needs ``if __name__ == "__main__":``.
        sampler: how Optuna chooses: ``nsga2``, ``tpe`` or ``random``.
        seed: of the choices. The same seed, workers and start give the same search.
        storage: URL of a database, such as ``sqlite:///study.db``. Another run with the same continues the study, also
            at the same time, and also after this process was killed.
        study: its name in the database.
        predictor: whose predictions; None for the shipped models with this machine's calibration.
        progress: called with what is being done, and the share of the trials that has ended.

    Raises:
        UsageError: an argument is wrong, a library is missing, or the stored study is another search.
        SpaceInvalid: the space is empty, contradictory or malformed, or none of its networks can be predicted.
        BoundNotMet: no network is predicted under the bound; the message names the nearest.
        ObjectiveFailed: none of those under the bound has a score; the message says why.
    """
    require("optuna", "searching needs Optuna", "search")
    if not 1 <= trials <= _LARGEST_TRIALS:
        raise UsageError(f"trials is {trials}: give a number from 1 to {_LARGEST_TRIALS:,}")
    if sampler not in SAMPLERS:
        raise UsageError(f"there is no sampler '{sampler}': choose one of {', '.join(SAMPLERS)}")
    started = time.monotonic()
    predictor = predictor or load_predictor()
    source = _Source.of(space)
    label = objective if isinstance(objective, str) else _label(objective)
    scoring = named(objective) if isinstance(objective, str) else objective
    opening = costs_for(predictor) if plans else None
    setting = Setting(predictor, profile, bound_ms, scoring, batch, threads, opening)
    predictor.with_measured_costs(profile, threads)  # refuses unknown costs before long work
    store = None
    if storage is not None:
        store = Store(storage, study, _settings(setting, source.label, label))
    run = _Run(source, setting, store, trials)
    run.start(sampler, seed)
    with Evaluators(setting, workers=workers, at_a_time=at_a_time(label)) as evaluators:
        for trial, one in evaluators.run(run.ask()):
            run.tell(trial, one)
            progress(f"trial {run.front.seen:,} of {trials:,}", min(1.0, run.front.seen / trials))
    run.front.check()
    front = tuple(Found(one, source.rebuild(chosen), chosen) for one, chosen in run.front.best)
    return SearchResult(
        front=front,
        trials=run.front.seen,
        under_bound=run.front.met,
        failed=run.front.failed,
        first_failure=run.front.first_failure,
        seconds=time.monotonic() - started,
        evaluated=tuple(run.evaluated),
        complete=run.exhausted,
        notes=tuple(getattr(scoring, "notes", ())),
    )


@dataclass(frozen=True)
class _Source:
    """Where networks come from.

    Attributes:
        label: tells this space from others.
        draw: makes the network of a trial.
        space: if it is one.
    """

    label: str
    draw: Draw
    space: Space | None = None

    @classmethod
    def of(cls, space: Space | Draw | str) -> _Source:
        if isinstance(space, str):
            space = function(space) if ":" in space else space_file.load(space)
        if not isinstance(space, Space):
            return cls(_label(space), space)
        found = space
        digest = hashlib.sha256(repr((found.sizes, found.stem, found.stages, found.head, found.classes)).encode())

        def draw(trial: optuna.trial.BaseTrial) -> Network:
            return found.build(
                {name: trial.suggest_categorical(name, choices) for name, choices in found.parameters.items()}
            )

        return cls(f"{found.name}:{digest.hexdigest()[:16]}", draw, found)

    def rebuild(self, chosen: Mapping[str, Any]) -> Network:
        """Make a network again from its parameters."""
        import optuna

        return self.draw(optuna.trial.FixedTrial(dict(chosen)))


class _Run:
    """Trials in this process's memory, where Optuna chooses from, and in the store, where they stay."""

    def __init__(self, source: _Source, setting: Setting, store: Store | None, trials: int) -> None:
        self.source, self.setting, self.store, self.trials = source, setting, store, trials
        self.front = Front(setting.bound_ms)
        self.evaluated: list[Evaluated] = []
        self._known: dict[tuple[tuple[str, Any], ...], Evaluated] = {}
        self._asked = 0

    def start(self, sampler: str, seed: int) -> None:
        """Take over what is stored."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        stored = self.store.new() if self.store is not None else []
        # Not the numbers again that an earlier run began with.
        earlier = (len(stored), self.store.starts if self.store is not None else 0)
        seed = int.from_bytes(hashlib.sha256(repr((seed, *earlier)).encode()).digest()[:4], "big")
        samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
            "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed),
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        }
        self._study = optuna.create_study(directions=DIRECTIONS, sampler=samplers[sampler]())
        for trial in stored:
            self._take(trial)
        space = self.source.space
        if not stored and space is not None and space.parameters:
            # The smallest is the nearest answer where no bound can be met.
            for share in _FIRST if sampler != "random" else _FIRST[:1]:
                self._study.enqueue_trial(space.at(share), skip_if_exists=True)

    @property
    def exhausted(self) -> bool:
        """Whether every network of the space has been looked at."""
        return self.source.space is not None and len(self._known) == self.source.space.count

    def ask(self) -> Iterator[tuple[optuna.trial.Trial, Network | Failure]]:
        """Draw networks until there are enough trials. Those that were looked at before are told at once."""
        while self.front.seen + self._asked < self.trials and not self.exhausted:
            trial = self._study.ask()
            try:
                network = self.source.draw(trial)
            except Exception as error:  # noqa: BLE001  # a user's function may raise anything
                network = Failure(f"trial {trial.number}", f"the space raised {said(error)}")
            known = self._known.get(_key(trial.params))
            self._asked += 1
            if known is not None:
                self.tell(trial, known)
            else:
                yield trial, network

    def tell(self, trial: optuna.trial.Trial, one: Evaluated) -> None:
        """End a trial, store it, and take over what other processes have stored."""
        import optuna

        trial.set_user_attr(ATTRIBUTE, self._stored(one))
        if one.failure:
            ended = self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            trial.set_constraint(_CONSTRAINT, one.upper_ms / self.setting.bound_ms - 1)
            ended = self._study.tell(trial, [one.latency_ms, _NOT_SCORED if one.score is None else one.score])
        self._asked -= 1
        self._count(one, ended.params)
        if self.store is not None:
            self.store.add(ended)
            for other in self.store.new():
                self._take(other)

    def _stored(self, one: Evaluated) -> dict[str, Any]:
        """What a trial keeps beside its values, in one attribute: each takes time to store."""
        said: dict[str, Any] = {"name": one.name, "process": "" if self.store is None else self.store.process}
        if one.failure:
            said["failure"] = one.failure
        if one.predicted:
            said |= {name: getattr(one, name) for name in _NUMBERS}
        if one.planned:
            said["planned"] = True
        return said

    def _take(self, trial: optuna.trial.FrozenTrial) -> None:
        """Take over a stored trial."""
        self._study.add_trial(trial)
        self._count(_evaluated(trial), trial.params)

    def _count(self, one: Evaluated, chosen: Mapping[str, Any]) -> None:
        self.evaluated.append(one)
        self._known[_key(chosen)] = one
        self.front.add(one, dict(chosen), chosen)


def _evaluated(trial: optuna.trial.FrozenTrial) -> Evaluated:
    """What `_Run.tell` wrote into a trial."""
    stored, missing = trial.user_attrs.get(ATTRIBUTE, {}), float("nan")
    failure = str(stored.get("failure", ""))
    score = None
    if trial.values is not None and trial.values[1] != _NOT_SCORED:
        score = float(trial.values[1])
    return Evaluated(
        name=str(stored.get("name", "")),
        latency_ms=float(stored.get("latency_ms", missing)),
        upper_ms=float(stored.get("upper_ms", missing)),
        score=score,
        working_set_bytes=int(stored.get("working_set_bytes", 0)),
        loads=float(stored.get("loads", missing)),
        probability=float(stored.get("probability", missing)),
        failure=failure,
        planned=bool(stored.get("planned", False)),
    )


def _key(chosen: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(chosen.items()))


def _label(made: Callable[..., Any]) -> str:
    """What tells a function from others."""
    if not callable(made):
        raise SpaceInvalid(f"{made!r} is neither a space nor a function nor a name")
    return f"{getattr(made, '__module__', '')}:{getattr(made, '__qualname__', type(made).__name__)}"


def _settings(setting: Setting, space: str, objective: str) -> dict[str, Any]:
    """What the trials of a study are valid for."""
    return {
        "space": space,
        "objective": objective,
        "bound_ms": setting.bound_ms,
        "enclave": setting.profile.name,
        "epc_bytes": setting.profile.epc_bytes,
        "profile": setting.profile.sha256,
        "batch": setting.batch,
        "threads": setting.threads,
        "machine": setting.predictor.machine,
        "calibrated": setting.predictor.calibration is not None,
        **({} if setting.opening is None else {"plans": True}),
    }
