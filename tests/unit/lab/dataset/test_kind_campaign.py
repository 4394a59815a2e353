"""Timing operators of one kind at a time: plans, networks, and records."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from sectum import zoo
from sectum.enclave.runners.runner import Job, OperatorTime, Sample
from sectum.errors import EnclaveError
from sectum.graph import Graph, read
from sectum.lab.dataset import kind_campaign as campaign
from sectum.lab.dataset import operator_kinds
from sectum.lab.dataset.kind_campaign import KindTask, plan
from sectum.lab.dataset.operator_kinds import convolutions, elementwise, moves, products, reductions, sizes
from sectum.lab.dataset.timing_campaign import collected
from sectum.ort import stored
from sectum.ort.cpu import Cpu
from sectum.ort.operators import describe
from sectum.ort.optimize import optimize
from sectum.predict.features import extract

SEEDS = range(6)
# The types of operators that each kind may make.
TYPES: dict[str, set[str]] = {
    **{f"conv{form}": {"Conv"} for form in ("1d", "1d_long", "1d_depthwise", "2d", "2d_long", "2d_depthwise", "3d")},
    "conv_transpose1d": {"ConvTranspose"},
    "conv_transpose2d": {"ConvTranspose"},
    "conv_quantized": {"QLinearConv", "ConvInteger"},
    "conv_quantized_depthwise": {"QLinearConv", "ConvInteger"},
    "matmul": {"Gemm", "MatMul"},
    "matmul_shared": {"Gemm", "MatMul", "Sum"},
    "matmul_dynamic": {"MatMul"},
    "matmul_fused": {"FusedMatMul"},
    "einsum": {"Einsum"},
    "matmul_quantized": {"DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul"},
    "gemm_quantized": {"QGemm"},
    "matmul_four_bit": {"MatMulNBits"},
    "lstm": {"LSTM"},
    "gru": {"GRU"},
    "rnn": {"RNN"},
    "lstm_quantized": {"DynamicQuantizeLSTM"},
    "attention": {"MultiHeadAttention", "Attention", "RotaryEmbedding"},
    "gather": {"Gather"},
    "gather_elements": {"GatherElements", "GatherND", "ScatterElements", "ScatterND"},
    "one_hot": {"OneHot"},
    "pad": {"Pad"},
    "slice": {"Slice", "Split"},
    "concat": {"Concat"},
    "transpose": {"Transpose"},
    "expand": {"Tile", "Expand"},
    "blocks": {"DepthToSpace", "SpaceToDepth"},
    "resize": {"Resize"},
    "reduction": {*reductions._REDUCTIONS},
    "selection": {"CumSum", "TopK"},
    "pool": {"GlobalMaxPool", "GlobalAveragePool", "MaxPool", "AveragePool"},
    "softmax": {"Softmax", "LogSoftmax"},
    "normalization": {
        "LayerNormalization", "SkipLayerNormalization", "SimplifiedLayerNormalization",
        "SkipSimplifiedLayerNormalization", "LpNormalization",
    },
    "channel_normalization": {"InstanceNormalization", "BatchNormalization"},
    "unary": {*elementwise._UNARY},
    "gelu": {"Gelu", "BiasGelu", "FastGelu", "QuickGelu"},
    "binary": {"Add", "Mul", "Sub", "Div", "Max", "Min", "PRelu"},
    "integer_arithmetic": {"Add", "Mul", "Sub"},
    "power": {"Pow"},
    "comparison": {"Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"},
    "logic": {"Not", "And", "Or", "Xor"},
    "where": {"Where"},
    "cast": {"Cast"},
    "sum": {"Sum", "Mean", "Max", "Min"},
    "quantization": {"DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear"},
    "quantized_elementwise": {
        f"QLinear{name}"
        for name in ("Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool", "Sigmoid", "Softmax", "LeakyRelu")
    },
    "fourier": {"STFT"},
    "boxes": {"GridSample"},
}  # fmt: skip


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of three operators, none of which takes long to write."""
    monkeypatch.setattr(operator_kinds, "OPERATORS", 3)
    for module in (sizes, convolutions, products):
        monkeypatch.setattr(module, "MOST_PRODUCTS", 1 << 20)
    for module in (convolutions, elementwise, moves, products, reductions):
        monkeypatch.setattr(module, "MOST_ELEMENTS", 1 << 14)


def program(kind: str, seed: int) -> zoo.Program:
    return zoo.Program("small", kind, partial(operator_kinds.write, kind=kind, seed=seed), seed)


def made_by(graph: Graph) -> list[str]:
    """Types of the operators that make the outputs."""
    makers = {name: op.type for op in graph.operators for name in op.outputs}
    return [makers[name] for name in graph.outputs]


def test_a_plan_is_decided_by_its_seed() -> None:
    """The same seed gives the same tasks, another seed others, and no task comes twice."""
    assert list(plan(4, 3)) == list(plan(4, 3))
    assert list(plan(4, 3)) != list(plan(4, 4))
    keys = [task.key for task in plan(12, 3)]
    assert len(keys) == len(set(keys))


def test_each_kind_comes_once_a_round() -> None:
    """Each round has a network of every kind, and a longer campaign begins as a shorter one."""
    assert [task.kind for task in plan(2, 0)] == [*operator_kinds.KINDS] * 2
    assert {*Counter(task.kind for task in plan(2, 0, threads=[4])).values()} == {2}
    assert list(plan(5, 1))[: len(operator_kinds.KINDS) * 2] == list(plan(2, 1))


def test_every_third_round_has_all_numbers_of_threads() -> None:
    """The third round times each of its networks with one thread and with two, the others with one."""
    tasks = list(plan(6, 0, threads=[1, 2], kinds=["gather"]))
    assert [task.threads for task in tasks] == [1, 1, 1, 2, 1, 1, 1, 2]
    assert tasks[2].seed == tasks[3].seed
    assert tasks[2].key != tasks[3].key


def test_some_kinds_alone_are_drawn_as_among_all() -> None:
    """Leaving kinds out does not change the networks of the others."""
    chosen = [task for task in plan(3, 7) if task.kind in ("lstm", "pad")]
    assert list(plan(3, 7, kinds=["pad", "lstm"])) == chosen


def test_every_kind_is_described_here() -> None:
    """No kind is left out of what the next test checks."""
    assert set(TYPES) == set(operator_kinds.KINDS)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", operator_kinds.KINDS)
def test_every_kind_writes_networks_of_its_operators(kind: str) -> None:
    """For several seeds a kind's network has as many outputs as asked for, each made by an operator of the kind."""
    for seed in SEEDS:
        graph = zoo.to_graph(program(kind, seed))
        made = made_by(graph)
        assert len(made) == 3
        assert set(made) <= TYPES[kind]
        runtime = optimize(graph, Cpu.AVX2)
        assert all(describe(op).code >= 0 for op in runtime.operators)
        features = extract(runtime, threads=1)
        assert np.isfinite(features.values).all()
        assert (features.work.sum(axis=1) > 0).all()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", operator_kinds.KINDS)
def test_every_kind_writes_models_that_can_be_read(kind: str) -> None:
    """The model's bytes are read, give an operator of the kind, and are decided by the seed."""
    content = zoo.to_bytes(program(kind, 1))
    graph = read(content).graph
    assert set(made_by(graph)) <= TYPES[kind]
    assert all(size > 0 for tensor in graph.tensors.values() for size in tensor.shape)
    assert content == zoo.to_bytes(program(kind, 1))
    assert content != zoo.to_bytes(program(kind, 2))


@pytest.mark.parametrize("rank", range(1, 6))
def test_shapes_have_the_rank_and_size_that_is_asked_for(rank: int) -> None:
    """A drawn shape has no more elements than allowed, and no dimension below 1."""
    drawn = sizes.Sizes(random.Random(rank))
    for _ in range(300):
        shape = drawn.shape(rank, 5000)
        assert len(shape) == rank
        assert min(shape) >= 1
        assert np.prod(shape) <= 5000


class _Session:
    """Times of a running model that are known: operator ``n`` takes ``n + 1`` times the reference kernel."""

    def __init__(self, times: list[OperatorTime]) -> None:
        self._times = times

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        pass

    def sample(self, n: int) -> list[Sample]:
        return [Sample(5_000_000, 5_000_000, 2_000_000, 2_000_000, 1_000_000, 1_000_000)] * n

    def operator_times(self, n: int) -> list[OperatorTime]:
        assert n == campaign.PROFILED_INFERENCES
        return self._times


def runs(monkeypatch: pytest.MonkeyPatch, *, fails: str = "", lost: int = 0) -> list[Job]:
    """Let no process start: the runner fails with a reason, or gives times but for those of some operators."""
    jobs: list[Job] = []

    class Runner:
        def start(self, job: Job) -> _Session:
            jobs.append(job)
            if fails:
                raise EnclaveError(fails)
            assert isinstance(job.model, bytes)
            runtime = optimize(read(job.model).graph, Cpu.here())
            return _Session(
                [
                    OperatorTime(
                        op.name, op.type, 2000.0 * (place + 1), 2000.0, 1000.0,
                        tuple(runtime.tensors[name].shape for name in op.outputs if name),
                    )
                    for place, op in enumerate(runtime.operators[lost:])
                ]
            )  # fmt: skip

    monkeypatch.setattr(campaign, "NativeRunner", Runner)
    return jobs


@pytest.mark.usefixtures("small")
def test_a_run_keeps_the_graph_and_times_in_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record has the optimized graph, and each operator's time over that of the GEMM kernel."""
    jobs = runs(monkeypatch)
    record = campaign.run(KindTask("gemm_quantized", 5, 2))
    (job,) = jobs
    assert (job.threads, job.profile) == (2, True)
    assert record["error"] == ""
    graph = stored.loads(record["graph"], Cpu.here())
    assert "QGemm" in {op.type for op in graph.operators}
    assert record["times_references"] == pytest.approx([1.0 + place for place in range(len(graph.operators))])
    assert record["reference_ms"] == pytest.approx(2.0)
    assert record["key"] == "gemm_quantized/5/t2"


@pytest.mark.usefixtures("small")
def test_a_failure_is_a_record_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that the runner refuses, or whose operators are others, says why and has no times."""
    runs(monkeypatch, fails="the process was killed")
    failed = campaign.run(KindTask("softmax", 5, 1))
    assert failed["error"] == "EnclaveError: the process was killed"
    runs(monkeypatch, lost=1)
    other = campaign.run(KindTask("softmax", 5, 1))
    assert "other operators" in other["error"]
    for record in (failed, other):
        assert record["times_references"] == []
        assert record["reference_ms"] == 0
        assert stored.loads(record["graph"], Cpu.here()).operators


def test_an_interrupted_campaign_goes_on_where_it_was(tmp_path: Path) -> None:
    """Stopped and started again, every task is stored exactly once, failures with their reason."""
    pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")

    def fake(task: KindTask) -> dict[str, object]:
        return {
            "key": task.key, "kind": task.kind, "seed": task.seed, "threads": task.threads, "graph": "{}",
            "times_references": [0.5], "reference_ms": 2.0, "error": "" if task.seed % 3 else "failed: by design",
        }  # fmt: skip

    tasks = list(plan(4, 1, kinds=["pad", "lstm", "cast"]))
    for limit in (3, 0, 5, 100):
        rows = collected(tmp_path, tasks, fake, replace(campaign.FORM, shard_rows=4))
        for _ in range(limit):
            if next(rows, None) is None:
                break
        rows.close()
    rows = list(campaign.FORM.read(tmp_path))
    assert sorted(row["key"] for row in rows) == sorted(task.key for task in tasks)
    assert all(bool(row["error"]) == (row["seed"] % 3 == 0) for row in rows)
