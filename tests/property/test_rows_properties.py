"""Strips have all rows that their operators read, no others, and cover every result once."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from drawing import examples
from optimized_graphs import as_optimized
from sectum.enclave.streaming.strip_operator import Rows
from sectum.graph import Graph, Operator, Tensor, TensorKind
from sectum.ort import OptimizedGraph
from sectum.plan.rows import Divider

NCHWC = "com.microsoft.nchwc"


@st.composite
def chains(draw: st.DrawFn) -> OptimizedGraph:
    """Convolutions and pools in a row, some with what a skip connection adds, and some results read later."""
    height = draw(st.integers(6, 40))
    tensors = {"x": Tensor("x", (1, 16, height, 8), "float32", TensorKind.INPUT)}
    operators: list[Operator] = []
    kept: list[str] = []
    name = "x"
    for index in range(draw(st.integers(1, 5))):
        kernel, stride, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
        extent = (kernel - 1) * dilation + 1
        automatic = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
        before, after = (draw(st.integers(0, extent - 1)) for _ in range(2))
        if automatic.startswith("SAME"):
            made = -(-height // stride)
        else:
            padding = before + after if automatic == "NOTSET" else 0
            made = (height + padding - extent) // stride + 1
        assume(made > 0 and height + before + after >= extent)
        attributes = {"kernel_shape": (kernel, 1), "strides": (stride, 1), "dilations": (dilation, 1),
                      "pads": (before, 0, after, 0), "auto_pad": automatic}  # fmt: skip
        result = f"t{index}"
        tensors[result] = Tensor(result, (1, 16, made, 8), "float32", TensorKind.ACTIVATION)
        tensors[f"w{index}"] = Tensor(f"w{index}", (16, 16, kernel, 1), "float32", TensorKind.WEIGHT)
        if draw(st.booleans()):
            inputs = [name, f"w{index}"]
            if made == height and name != "x" and draw(st.booleans()):
                inputs += ["", name]  # what the kernel adds to its result
            operators.append(Operator(result, "Conv", tuple(inputs), (result,), attributes, NCHWC))
        else:
            operators.append(Operator(result, "MaxPool", (name,), (result,), attributes, NCHWC))
        if draw(st.booleans()):
            kept.append(result)
        name, height = result, made
    return as_optimized(Graph("chain", tuple(operators), tensors, ("x",), tuple({*kept, name}), 17))


def rows_read(op: Operator, graph: OptimizedGraph, slot: int, made: Rows) -> set[int]:
    """Rows of an input that an operator reads, one result and one tap of the kernel after the other."""
    if slot:
        return set(range(*made))
    height, result = (graph.tensors[name].shape[2] for name in (op.inputs[0], op.result))
    kernel, stride, dilation = (op.attributes[name][0] for name in ("kernel_shape", "strides", "dilations"))
    before = op.attributes["pads"][0]
    if op.attributes["auto_pad"] != "NOTSET":
        total = max(0, (result - 1) * stride + (kernel - 1) * dilation + 1 - height)
        before = {"SAME_UPPER": total // 2, "SAME_LOWER": total - total // 2, "VALID": 0}[op.attributes["auto_pad"]]
    taps = {row * stride - before + tap * dilation for row in range(*made) for tap in range(kernel)}
    return {row for row in taps if 0 <= row < height}


@given(chains(), st.integers(1, 12))
@examples(150)
def test_strips_have_just_the_rows_that_are_read(graph: OptimizedGraph, rows: int) -> None:
    """The rows of a strip are the hull of what its operators read, as counted tap by tap; pads make up the rest."""
    last = len(graph.operators) - 1
    division = Divider(graph).divided(0, last, rows)
    assume(division is not None)
    for strip in division.strips:
        needed = {name: set(range(*one)) for name, one in strip.completes.items()}
        for op, one in reversed(list(zip(division.operators, strip.operators, strict=True))):
            assert set(range(*one.made)) == set(range(min(needed[op.result]), max(needed[op.result]) + 1))
            for slot, read in enumerate(one.reads):
                if read is None:
                    continue
                taps = rows_read(op, graph, slot, one.made)
                assert taps <= set(range(*read))
                needed.setdefault(op.inputs[slot], set()).update(range(*read))
            kernel, stride, dilation = (op.attributes[name][0] for name in ("kernel_shape", "strides", "dilations"))
            begin, end = one.reads[0]
            rest = end - begin + one.pads[0] + one.pads[2] - ((kernel - 1) * dilation + 1)
            assert rest == (one.made[1] - one.made[0] - 1) * stride
            assert min(one.pads) >= 0
        for name, (begin, end) in strip.available.items():
            assert (begin, end) == (min(needed[name]), max(needed[name]) + 1)


@given(chains(), st.integers(1, 12))
@examples(100)
def test_strips_cover_each_result_once(graph: OptimizedGraph, rows: int) -> None:
    """Every row of every result belongs to just one strip, which makes it, and nothing is made less than once."""
    division = Divider(graph).divided(0, len(graph.operators) - 1, rows)
    assume(division is not None)
    for name in division.results:
        parts = [strip.completes[name] for strip in division.strips]
        assert [begin for begin, _ in parts] == [0, *(end for _, end in parts[:-1])]
        assert parts[-1][1] == graph.tensors[name].shape[2]
        assert all(
            strip.available[name][0] <= strip.completes[name][0] < strip.completes[name][1] <= strip.available[name][1]
            for strip in division.strips
        )
    made = zip(division.operators, division.work, strict=True)
    assert all(share >= 1 for op, share in made if op.result in division.results)


@given(chains(), st.integers(1, 12))
@examples(100)
def test_a_result_never_lies_over_rows_that_are_still_read(graph: OptimizedGraph, rows: int) -> None:
    """Played row by row: when a strip is read, no row of it has been overwritten by the results of earlier strips."""
    for first in range(len(graph.operators)):
        division = Divider(graph).divided(first, len(graph.operators) - 1, rows)
        if division is None:
            continue
        for result, source in division.over(dict.fromkeys(division.sources, 0), 0).items():
            assert source not in graph.inputs
            written: set[int] = set()
            waiting: set[int] = set()
            for strip in division.strips:
                assert written.isdisjoint(range(*strip.available[source]))
                written |= waiting
                waiting = set(range(*strip.completes[result]))
