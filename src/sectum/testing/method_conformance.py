"""What every latency method has to do.

Subclass `MethodConformance` in a test module and give it a method::

    class TestMine(MethodConformance):
        @pytest.fixture
        def method(self) -> LatencyMethod:
            return MyMethod()
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest

from sectum import zoo
from sectum.enclave.profile import Profile, load
from sectum.errors import OperatorUnsupported
from sectum.graph.ir import Graph
from sectum.predict.method import LatencyMethod
from sectum.units import MIB

KEYS = frozenset({
    "model", "enclave", "machine", "calibrated", "batch", "threads", "latency_ms", "native_ms", "native_source",
    "overcommit", "memory", "notes", "kind",
})  # fmt: skip
"""Keys that the JSON of every method has."""


class MethodConformance:
    """Tests that each implementation passes."""

    @pytest.fixture
    def method(self) -> LatencyMethod:
        """Give the method under test: every suite has its own."""
        raise NotImplementedError("give this suite a fixture named method")

    @pytest.fixture
    def graph(self) -> Graph:
        """A small network as it was read: 5 MiB of weights."""
        return zoo.to_graph(zoo.network("squeezenet1_0"), 1)

    @pytest.fixture
    def profile(self) -> Profile:
        """The software enclave."""
        return load("softepc")

    def test_its_name_can_be_typed(self, method: LatencyMethod) -> None:
        """A name is a word for the command line."""
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", method.name)

    def test_a_prediction_is_sensible(self, method: LatencyMethod, graph: Graph, profile: Profile) -> None:
        """Latencies are positive and finite, the probability is one, and the verdict agrees with it at both ends."""
        for epc_bytes in (MIB, 24 * MIB, 1024 * MIB):
            found = method.predict(graph, profile.with_epc(epc_bytes))
            assert math.isfinite(found.latency_ms)
            assert math.isfinite(found.native_ms)
            assert found.latency_ms > 0
            assert found.native_ms > 0
            assert 0 <= found.overcommit.probability <= 1
            if abs(found.overcommit.probability - 0.5) > 0.45:
                assert found.overcommit.predicted == (found.overcommit.probability > 0.5)
            assert (found.batch, found.threads, found.enclave) == (1, 1, "softepc")

    def test_a_larger_epc_never_pages_more_likely(self, method: LatencyMethod, graph: Graph, profile: Profile) -> None:
        """From 1 MiB to 1 GiB the probability of over-commitment falls from about 1 to about 0."""
        sizes = [MIB * 2**power for power in range(11)]
        found = [method.predict(graph, profile.with_epc(size)).overcommit.probability for size in sizes]
        assert found == sorted(found, reverse=True)
        assert found[0] > 0.95
        assert found[-1] < 0.05

    def test_paging_costs_time(self, method: LatencyMethod, graph: Graph, profile: Profile) -> None:
        """In an EPC of 1 MiB the network takes longer than in one of 1 GiB; its native latency is the same."""
        small, large = (method.predict(graph, profile.with_epc(size)) for size in (MIB, 1024 * MIB))
        assert small.latency_ms > large.latency_ms
        assert small.native_ms == pytest.approx(large.native_ms)

    def test_outside_enclaves_nothing_pages(self, method: LatencyMethod, graph: Graph) -> None:
        """The profile without an enclave gives the native latency, and no over-commitment."""
        found = method.predict(graph, load("native"))
        assert found.latency_ms == pytest.approx(found.native_ms)
        assert (found.overcommit.predicted, found.overcommit.probability) == (False, 0.0)

    def test_the_same_question_has_the_same_answer(self, method: LatencyMethod, graph: Graph, profile: Profile) -> None:
        """Nothing depends on chance, nor on what was asked before."""
        first = method.predict(graph, profile.with_epc(4 * MIB))
        method.predict(graph, profile.with_epc(64 * MIB), threads=2)
        assert method.predict(graph, profile.with_epc(4 * MIB)) == first

    def test_its_json_has_the_common_keys(self, method: LatencyMethod, graph: Graph, profile: Profile) -> None:
        """Programs read every method's answer under the same keys; the values are plain JSON."""
        found = method.predict(graph, profile.with_epc(4 * MIB))
        stored = json.loads(json.dumps(found.to_json(), allow_nan=False))
        assert stored.keys() >= KEYS
        assert stored["latency_ms"] == found.latency_ms
        assert stored["overcommit"] == {
            "predicted": found.overcommit.predicted,
            "probability": found.overcommit.probability,
        }
        assert stored["memory"].keys() >= {"working_set_bytes", "epc_bytes", "margin_bytes"}

    def test_strict_refuses_unknown_operators(self, method: LatencyMethod, graph: Graph, profile: Profile) -> None:
        """An operator without a cost of its own is refused if the caller asks for that, and bounded if not."""
        unknown = replace(graph, operators=tuple(
            replace(op, type="Mystery") if op.type == "Relu" else op for op in graph.operators
        ))  # fmt: skip
        with pytest.raises(OperatorUnsupported, match="Mystery"):
            method.predict(unknown, profile, strict=True)
        assert method.predict(unknown, profile).latency_ms > 0
