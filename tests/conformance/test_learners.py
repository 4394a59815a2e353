"""Every learner that can be used here passes the suite."""

from __future__ import annotations

import pytest

from measured_networks import stored_networks
from sectum.lab.evaluation.registry import learners
from sectum.lab.learners.native import Shared
from sectum.testing.learner_conformance import LearnerConformance

pytestmark = pytest.mark.slow

pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")


class TestRegistered(LearnerConformance):
    @pytest.fixture(params=learners().values(), ids=lambda entry: entry.name)
    def learner(self, request, monkeypatch):
        if request.param.missing:
            pytest.skip(request.param.missing)
        if "torch" in request.param.needs:
            from sectum.lab.learners import graph_verdict

            monkeypatch.setattr(graph_verdict, "EPOCHS", 2)
        return request.param.make(Shared())

    @pytest.fixture
    def networks(self):
        return list(stored_networks(30))
