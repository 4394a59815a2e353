"""A stored graph costs what the graph cost that it was made from."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from optimized_graphs import as_optimized
from sectum import zoo
from sectum.errors import ModelMalformed
from sectum.graph.ir import Graph, Operator, Tensor, TensorKind
from sectum.ort import stored
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.optimized import OptimizedGraph
from sectum.ort.page_trace import page_trace
from sectum.predict.features import extract

SMALL_EPC_PAGES = 256


@pytest.fixture(scope="module", params=zoo.families())
def runtime(request: pytest.FixtureRequest) -> OptimizedGraph:
    return optimize(zoo.to_graph(zoo.sample(request.param, random.Random(7)), 2), Cpu.AVX2)


@pytest.fixture
def every_kind_of_field() -> OptimizedGraph:
    """Attributes of each type, an input left out, constants with content, a domain, two outputs."""
    tensors = [
        Tensor("image", (1, 4, 8, 8), "float32", TensorKind.INPUT),
        Tensor("low", (), "float32", TensorKind.WEIGHT, np.array(-1.5, np.float32)),
        Tensor("sizes", (2,), "int64", TensorKind.WEIGHT, np.array([1, -1])),
        Tensor("left", (1, 2, 8, 8), "float32", TensorKind.ACTIVATION),
        Tensor("right", (1, 2, 8, 8), "float16", TensorKind.ACTIVATION),
        Tensor("nobody uses it", (9,), "float32", TensorKind.WEIGHT),
    ]
    attributes = {"axis": 1, "alpha": 0.25, "mode": "linear", "pads": (0, 1), "scales": (0.5, 2.0), "names": ("a", "b")}
    operator = Operator("op", "Kind", ("image", "", "low", "sizes"), ("left", "right"), attributes, "com.example")
    by_name = {tensor.name: tensor for tensor in tensors}
    return as_optimized(Graph("graph", (operator,), by_name, ("image",), ("left", "right"), 17))


def renamed(graph: OptimizedGraph, rng: random.Random) -> OptimizedGraph:
    """The same graph under other names, its tensors listed in another order."""
    names = list(graph.tensors)
    rng.shuffle(names)
    new = {name: f"other {index}" for index, name in enumerate(names)} | {"": ""}

    def of(several: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(new[name] for name in several)

    operators = (replace(op, name="", inputs=of(op.inputs), outputs=of(op.outputs)) for op in graph.operators)
    tensors = {new[name]: replace(graph.tensors[name], name=new[name]) for name in names}
    return as_optimized(
        Graph("other", tuple(operators), tensors, of(graph.inputs), of(graph.outputs), graph.opset), graph.cpu
    )


def test_a_restored_graph_has_the_features_and_touches_the_pages_of_the_original(runtime: Graph) -> None:
    """What is learned and simulated from a dataset is what would be from the networks themselves."""
    restored = stored.loads(stored.dumps(runtime), runtime.cpu)
    one, other = extract(runtime, threads=1), extract(restored, threads=1)
    assert (one.kinds, one.costs) == (other.kinds, other.costs)
    np.testing.assert_array_equal(one.values, other.values)
    here, there = page_trace(runtime), page_trace(restored)
    assert (here.pages, here.weight_pages, here.live_bytes) == (there.pages, there.weight_pages, there.live_bytes)
    np.testing.assert_array_equal(here.touches, there.touches)
    np.testing.assert_array_equal(here.touches_under(SMALL_EPC_PAGES), there.touches_under(SMALL_EPC_PAGES))
    assert restored.weight_bytes == runtime.weight_bytes
    assert restored.lifetimes.peak_bytes == runtime.lifetimes.peak_bytes


def test_equal_graphs_are_equal_text(runtime: Graph) -> None:
    """Neither names nor the order in a dictionary leave a trace, so text tells whether two graphs are one."""
    text = stored.dumps(runtime)
    assert stored.dumps(renamed(runtime, random.Random(1))) == text
    assert stored.dumps(stored.loads(text, runtime.cpu)) == text


def test_other_graphs_are_other_text(every_kind_of_field: Graph) -> None:
    """Whatever costs anything is in the text: a shape, a type, an attribute, a connection, a constant's content."""
    graph = every_kind_of_field
    (op,) = graph.operators
    others = [
        replace(graph, operators=(replace(op, attributes={**op.attributes, "axis": 2}),)),
        replace(graph, operators=(replace(op, type="Other"),)),
        replace(graph, operators=(replace(op, domain=""),)),
        replace(graph, operators=(replace(op, inputs=("image", "low", "", "sizes")),)),
        replace(graph, outputs=("right", "left")),
        replace(graph, opset=18),
        *(
            replace(graph, tensors={**graph.tensors, "left": replace(graph.tensors["left"], **change)})
            for change in ({"shape": (1, 2, 8, 9)}, {"dtype": "float64"}, {"kind": TensorKind.WEIGHT})
        ),
        replace(graph, tensors={**graph.tensors, "sizes": replace(graph.tensors["sizes"], value=np.array([1, -2]))}),
    ]
    texts = [stored.dumps(graph), *map(stored.dumps, others)]
    assert len(set(texts)) == len(texts)


def test_every_field_comes_back(every_kind_of_field: Graph) -> None:
    """Attributes keep their types, an input left out stays out, small constants keep their content."""
    restored = stored.loads(stored.dumps(every_kind_of_field), Cpu.AVX2)
    (op,), (original,) = restored.operators, every_kind_of_field.operators
    assert (op.type, op.domain, op.attributes) == (original.type, original.domain, original.attributes)
    assert op.inputs[1] == ""
    for name, old in zip(op.inputs + op.outputs, original.inputs + original.outputs, strict=True):
        if name:
            one, other = restored.tensors[name], every_kind_of_field.tensors[old]
            assert (one.shape, one.dtype, one.kind) == (other.shape, other.dtype, other.kind)
            if other.value is None:
                assert one.value is None
            else:
                assert one.value is not None
                assert one.value.dtype == other.value.dtype
                np.testing.assert_array_equal(one.value, other.value)
    assert restored.opset == 17
    assert len(restored.tensors) == len(every_kind_of_field.tensors) - 1, "what nobody uses is left out"


def test_text_is_one_line_without_names_and_without_contents_of_weights(runtime: Graph) -> None:
    """It is small, fits into a line of a journal, and gives away nothing but costs."""
    text = stored.dumps(runtime)
    assert "\n" not in text
    assert not any(f'"{op.name}"' in text for op in runtime.operators)
    assert len(text) < 400 * len(runtime.operators) + 1000


def damaged(text: str) -> Iterator[str]:
    """Texts that are not what `dumps` writes."""
    for end in range(0, len(text), 7):
        yield text[:end]
    form, opset, inputs, outputs, tensors, operators = json.loads(text)
    (kind, sources, results, attributes) = operators[0]
    for changed in (
        [form + 1, opset, inputs, outputs, tensors, operators],
        [form, opset, inputs, outputs, tensors],
        [form, opset, inputs, [len(tensors)], tensors, operators],
        [form, opset, inputs, [-2], tensors, operators],
        [form, opset, inputs, outputs, [[[1], "float32", "neither weight nor activation"]], operators],
        [form, opset, inputs, outputs, [[[3], "int64", "weight", [1, 2]]], operators],
        [form, opset, inputs, outputs, 5, operators],
        [form, opset, inputs, outputs, tensors, [[kind, sources, results]]],
        [form, opset, inputs, outputs, tensors, [[kind, ["one"], results, attributes]]],
        [form, opset, inputs, outputs, tensors, [[None, sources, results, attributes]]],
        [form, opset, inputs, outputs, tensors, [[kind, sources, results, []]]],
        {},
        None,
    ):
        yield json.dumps(changed)
    yield "[" * 100_000


def test_damaged_text_is_refused(every_kind_of_field: Graph) -> None:
    """Text that was cut off or changed is refused with the error of a malformed model, and nothing else."""
    text = stored.dumps(every_kind_of_field)
    for broken in damaged(text):
        with pytest.raises(ModelMalformed):
            stored.loads(broken, Cpu.AVX2)


def test_a_newer_format_asks_for_a_newer_version() -> None:
    """Who reads a dataset of the future is told to update, not that it is damaged."""
    with pytest.raises(ModelMalformed, match="update Sectum"):
        stored.loads("[2,17,[],[],[],[]]", Cpu.AVX2)
