"""What every latency learner has to do.

Subclass `LearnerConformance` in a test module and give it a learner and measured networks::

    class TestMine(LearnerConformance):
        @pytest.fixture
        def learner(self) -> LatencyLearner:
            return MyLearner()

        @pytest.fixture
        def networks(self) -> list[MeasuredNetwork]:
            return read(Path("data/networks"))[:40]
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from sectum.lab.evaluation.running import blind_cases
from sectum.lab.evaluation.truth import truth
from sectum.lab.learners.learner import LatencyEstimate, LatencyLearner
from sectum.lab.learners.measured import MeasuredNetwork, MeasuredRun
from sectum.lab.learners.splits import Fold, random_folds


def _answers(
    learner: LatencyLearner, trained: Sequence[MeasuredNetwork], networks: Sequence[MeasuredNetwork], fold: Fold
) -> list[LatencyEstimate]:
    """What it says of the fold's test side, having learned from ``trained``."""
    cases = truth(networks)
    lines = np.flatnonzero(np.isin(cases.network, fold.test))
    return list(learner.fit(trained).predict(blind_cases(networks, cases, lines)))


def _spoilt(network: MeasuredNetwork) -> MeasuredNetwork:
    """The network as if it had been measured to be something else."""

    def other(run: MeasuredRun) -> MeasuredRun:
        return replace(run, latency_ms=10 * run.latency_ms, loads=1e6, over_committed=True, uncertainty=1.0)

    times = None if network.operator_ms is None else 7 * network.operator_ms
    runs = tuple(other(run) for run in network.runs)
    return replace(network, native=other(network.native), runs=runs, operator_ms=times, working_set_bytes=1)


class LearnerConformance:
    """Tests that each implementation passes."""

    @pytest.fixture
    def learner(self) -> LatencyLearner:
        """Give the learner under test: every suite has its own."""
        raise NotImplementedError("give this suite a fixture named learner")

    @pytest.fixture
    def networks(self) -> Sequence[MeasuredNetwork]:
        """Give some dozens of measured networks."""
        raise NotImplementedError("give this suite a fixture named networks")

    @pytest.fixture
    def fold(self, networks: Sequence[MeasuredNetwork]) -> Fold:
        """The first random fold."""
        return random_folds(networks)[0]

    def test_its_name_can_be_typed(self, learner: LatencyLearner) -> None:
        """A name is a word for the command line."""
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", learner.name)

    def test_each_case_is_answered_sensibly(
        self, learner: LatencyLearner, networks: Sequence[MeasuredNetwork], fold: Fold
    ) -> None:
        """One answer a case: positive, inside its own interval if there is one, with a probability that is one."""
        estimates = _answers(learner, [networks[index] for index in fold.train], networks, fold)
        assert len(estimates) == sum(1 + len(networks[index].runs) for index in fold.test)
        for estimate in estimates:
            assert math.isfinite(estimate.latency_ms)
            assert estimate.latency_ms > 0
            assert estimate.over_commitment is None or 0 <= estimate.over_commitment <= 1
            if estimate.interval_ms is not None:
                low, high = estimate.interval_ms
                assert 0 <= low <= high < math.inf

    def test_held_out_measurements_change_nothing(
        self, learner: LatencyLearner, networks: Sequence[MeasuredNetwork], fold: Fold
    ) -> None:
        """Other latencies and page counts on the side that is predicted change no prediction; nor does chance."""
        trained = [networks[index] for index in fold.train]
        tested = set(fold.test)
        other = [_spoilt(network) if index in tested else network for index, network in enumerate(networks)]
        assert _answers(learner, trained, networks, fold) == _answers(learner, trained, other, fold)

    def test_cases_do_not_depend_on_their_company(
        self, learner: LatencyLearner, networks: Sequence[MeasuredNetwork], fold: Fold
    ) -> None:
        """A case alone, and last among others, is answered as it was among them, to rounding."""
        cases = truth(networks)
        lines = np.flatnonzero(np.isin(cases.network, fold.test))
        fitted = learner.fit([networks[index] for index in fold.train])
        asked = blind_cases(networks, cases, lines)
        together = [estimate.latency_ms for estimate in fitted.predict(asked)]
        backwards = [estimate.latency_ms for estimate in fitted.predict(asked[::-1])]
        (alone,) = (estimate.latency_ms for estimate in fitted.predict(asked[:1]))
        assert backwards[::-1] == pytest.approx(together, rel=1e-4)
        assert alone == pytest.approx(together[0], rel=1e-4)

    def test_training_changes_no_network(
        self, learner: LatencyLearner, networks: Sequence[MeasuredNetwork], fold: Fold
    ) -> None:
        """What the next learner is given is what this one was given."""
        trained = [networks[index] for index in fold.train]
        before = [(network.native, network.runs, np.copy(network.features.values)) for network in trained]
        learner.fit(trained)
        for network, (native, runs, values) in zip(trained, before, strict=True):
            assert (network.native, network.runs) == (native, runs)
            assert np.array_equal(network.features.values, values)
