"""Hostile model files, by kind. Each maker writes into a folder and yields cases with the verdicts they may get."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from places import LIGHT
from sectum.graph.protobuf import encode_bytes, encode_number, encode_varint

MALFORMED, TOO_LARGE, UNSAFE, UNREADABLE, UNBOUND, INCONSISTENT, UNSUPPORTED = 11, 12, 13, 10, 14, 15, 16
ANY = frozenset({0, 2, 10, 11, 12, 13, 14, 15, 16})
REFUSED = ANY - {0}


@dataclass(frozen=True)
class Case:
    """A hostile file and the exit codes that it may end with."""

    name: str
    path: Path
    codes: frozenset[int]
    as_bytes: bool = False
    batch: int | None = None
    values: dict[str, object] = field(default_factory=dict)  # of inputs


Maker = Callable[[Path], Iterator[Case]]


def model(nodes, inputs=None, outputs=("y",), initialisers=(), opset=17, **kwargs) -> onnx.ModelProto:
    """A small model with float inputs; shapes of outputs are left open."""
    inputs = {"x": [1, 3, 8, 8]} if inputs is None else inputs
    graph = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        list(initialisers),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10, **kwargs)


def weight(name: str, *shape: int) -> TensorProto:
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def ints(name: str, *values: int) -> TensorProto:
    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)


def save(folder: Path, name: str, data: onnx.ModelProto | bytes) -> Path:
    path = folder / f"{name}.onnx"
    path.write_bytes(data if isinstance(data, bytes) else data.SerializeToString())
    return path


def node(kind: str, inputs=("x",), outputs=("y",), **attributes) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), list(outputs), name=f"the_{kind}", **attributes)


def flipped(folder: Path) -> Iterator[Case]:
    """Real models with bytes changed."""
    for number, name in enumerate(("squeezenet", "zfnet512", "shufflenet", "bvlc_alexnet", "resnet50")):
        source = (LIGHT / f"light_{name}.onnx").read_bytes()
        for seed in range(12):
            rng = random.Random(1000 * number + seed)
            data = bytearray(source)
            for _ in range(rng.choice((1, 3, 10, 100))):
                # Structure lies at the start and the end; in between there are mostly names.
                at = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(2000)
                data[at] = rng.choice((rng.randrange(256), data[at] ^ (1 << rng.randrange(8)), 0xFF, 0x80, 0))
            yield Case(f"flip-{name}-{seed}", save(folder, f"flip-{name}-{seed}", bytes(data)), ANY, batch=2)


def truncated(folder: Path) -> Iterator[Case]:
    """Real models cut off."""
    for name in ("squeezenet", "inception_v1"):
        source = (LIGHT / f"light_{name}.onnx").read_bytes()
        rng = random.Random(name)
        for cut in (1, 2, 3, 10, 100, len(source) - 1, *(rng.randrange(len(source)) for _ in range(10))):
            yield Case(f"cut-{name}-{cut}", save(folder, f"cut-{name}-{cut}", source[:cut]), ANY - {0})


def spliced(folder: Path) -> Iterator[Case]:
    """Pieces of real models put together, moved, repeated or removed."""
    sources = [(LIGHT / f"light_{n}.onnx").read_bytes() for n in ("squeezenet", "zfnet512", "vgg19")]
    for seed in range(30):
        rng = random.Random(seed)
        one, two = rng.choice(sources), rng.choice(sources)
        a, b, c = (rng.randrange(len(one)) for _ in range(3))
        d = rng.randrange(len(two))
        data = (one[:a] + two[d : d + 300] + one[b:], one[:a] + one[c:] + one[a:c],
                one[:a] + one[a : a + 200] * 20 + one[a:], one + two, one[: min(a, b)] + one[max(a, b)
                :])[seed % 5]  # fmt: skip
        yield Case(f"splice-{seed}", save(folder, f"splice-{seed}", data), ANY)


def weighted(folder: Path) -> Iterator[Case]:
    """A model with weights in initialisers, constants and subgraphs, with bytes changed around them, and cut off."""
    branches = {
        f"{name}_branch": helper.make_graph(
            [node("Constant", [], ["c"], value=weight("", 3, 64, 64)), node("Add", ["x", "c"], ["b"])],
            name, [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)],
        )
        for name in ("then", "else")
    }  # fmt: skip
    source = model(
        [node("If", ["yes"], ["i"], **branches), node("Conv", ["i", "w"], ["a"]), node("Add", ["a", "v"])],
        {"x": [1, 3, 64, 64]},
        initialisers=[numpy_helper.from_array(np.array(True), "yes"), weight("w", 16, 3, 1, 1),
                      weight("v", 16, 64, 64)],
    ).SerializeToString()  # fmt: skip
    payload = np.ones(2, np.float32).tobytes()
    around = [at for at in range(len(source)) if source[at : at + 8] not in (payload, payload[1:] + payload[:1],
              payload[2:] + payload[:2], payload[3:] + payload[:3])]  # fmt: skip
    yield Case("weighted", save(folder, "weighted", source), frozenset({0}))
    for seed in range(40):
        rng = random.Random(seed)
        data = bytearray(source)
        for _ in range(rng.choice((1, 2, 5))):
            at = rng.choice(around)
            data[at] = rng.choice((rng.randrange(256), data[at] ^ (1 << rng.randrange(8)), 0xFF, 0x80, 0))
        end = rng.choice((len(data), len(data), rng.choice(around)))
        yield Case(f"weighted-{seed}", save(folder, f"weighted-{seed}", bytes(data[:end])), ANY)


def no_onnx(folder: Path) -> Iterator[Case]:
    """Files that are something else."""
    rng = random.Random(0)
    contents = {
        "empty": b"", "text": b"hello, world\n" * 50, "zero": bytes(4096), "ones": b"\xff" * 4096,
        "png": b"\x89PNG\r\n\x1a\n" + rng.randbytes(500), "zip": b"PK\x03\x04" + rng.randbytes(500),
        "pickle": b"\x80\x04\x95" + rng.randbytes(200), "elf": b"\x7fELF" + rng.randbytes(500),
        "json": b'{"graph": {"node": []}}', "one-byte": b"\x08", "eternal-varint": b"\x08" + b"\x80" * 5000,
        "group": b"\x0b" * 3000, "field-zero": b"\x00\x01" * 100,
    }  # fmt: skip
    for seed in range(8):
        contents[f"random-{seed}"] = rng.randbytes(rng.randrange(1, 3000))
    for name, data in contents.items():
        yield Case(f"other-{name}", save(folder, f"other-{name}", data), frozenset({MALFORMED, TOO_LARGE}))
        yield Case(f"other-{name}-bytes", folder / f"other-{name}.onnx", frozenset({MALFORMED, TOO_LARGE}), True)
    (folder / "directory.onnx").mkdir()
    os.mkfifo(folder / "fifo.onnx")
    (folder / "dangling.onnx").symlink_to("nowhere")
    (folder / "loop.onnx").symlink_to("loop.onnx")
    for name in ("directory", "fifo", "dangling", "loop", "missing"):
        yield Case(f"other-{name}", folder / f"{name}.onnx", frozenset({UNREADABLE}))
    yield Case("other-device", Path("/dev/zero"), frozenset({UNREADABLE}))


def bombs(folder: Path) -> Iterator[Case]:
    """Small files that unfold to something big, or keep a reader busy."""
    prefix = encode_number(1, 8) + encode_bytes(8, encode_number(2, 17))

    def graph(payload: bytes) -> bytes:
        return prefix + encode_bytes(7, payload)

    one = encode_bytes(1, encode_bytes(4, b"Relu") + encode_bytes(1, b"x") + encode_bytes(2, b"y"))
    bombs = {
        "nodes": graph(encode_bytes(1, encode_bytes(4, b"R")) * 200_000),
        "empty-nodes": graph(b"\x0a\x00" * 1_000_000),
        "fields": graph(b"\x40\x00" * 5_000_000),
        "unknown-fields": (b"\xf8\x3f\x00") * 3_000_000,
        "attributes": graph(encode_bytes(1, encode_bytes(4, b"R") + encode_bytes(5, encode_bytes(1, b"a")) * 10_000)),
        "packed-ints": graph(encode_bytes(1, encode_bytes(4, b"R") + encode_bytes(
            5, encode_bytes(1, b"a") + encode_number(20, 7) + encode_bytes(8, b"\x01" * 20_000_000)))),
        "loose-ints": graph(encode_bytes(1, encode_bytes(4, b"R") + encode_bytes(
            5, encode_bytes(1, b"a") + encode_number(20, 7) + b"\x40\x01" * 3_000_000))),
        "dims": graph(encode_bytes(5, encode_bytes(8, b"w") + encode_number(2, 1) + b"\x08\x01" * 100_000)),
        "packed-dims": graph(encode_bytes(5, encode_bytes(8, b"w") + encode_number(2, 1)
                                          + encode_bytes(1, b"\x01" * 1_000_000))),
        "tensors": graph(encode_bytes(5, encode_bytes(8, b"w") + encode_number(2, 1) + encode_number(1, 0)) * 250_000),
        "long-name": graph(encode_bytes(1, encode_bytes(4, b"R" * 20_000_000))),
        "inputs": graph(encode_bytes(1, encode_bytes(4, b"Sum") + encode_bytes(1, b"x") * 100_000)),
        "input-dims": graph(one + encode_bytes(11, encode_bytes(1, b"x") + encode_bytes(2, encode_bytes(
            1, encode_number(1, 1) + encode_bytes(2, encode_bytes(1, encode_number(1, 1)) * 200_000))))),
        "two-graphs": graph(one) + encode_bytes(7, one),
        "graph-as-number": prefix + encode_number(7, 5),
        "length-beyond-end": prefix + encode_varint(7 << 3 | 2) + encode_varint(1 << 40),
        "length-negative": prefix + encode_varint(7 << 3 | 2) + encode_varint(-1),
    }  # fmt: skip
    for name, data in bombs.items():
        yield Case(f"bomb-{name}", save(folder, f"bomb-{name}", data), frozenset({MALFORMED, TOO_LARGE}))
    for depth in (9, 50, 1000, 5_000):  # making one costs its square
        payload = b""
        for _ in range(depth):
            attribute = encode_bytes(1, b"then_branch") + encode_number(20, 5) + encode_bytes(6, payload)
            payload = encode_bytes(1, encode_bytes(4, b"If") + encode_bytes(5, attribute))
        yield Case(f"bomb-nested-{depth}", save(folder, f"nested-{depth}", graph(payload)), frozenset({TOO_LARGE}))


def memory(folder: Path) -> Iterator[Case]:
    """Models that ask for memory by the terabyte."""
    huge = 10**12
    codes = frozenset({MALFORMED, TOO_LARGE, INCONSISTENT})
    cases = {
        "constant-of-shape": model([node("ConstantOfShape", ["s"])], initialisers=[ints("s", huge)]),
        "constant-of-shape-product": model([node("ConstantOfShape", ["s"])],
                                           initialisers=[ints("s", *[2**20] * 8)]),
        "constant-of-shape-int64": model([node("ConstantOfShape", ["s"])],
                                         initialisers=[ints("s", 2**63 - 1, 2**63 - 1)]),
        "constant-of-shape-negative": model([node("ConstantOfShape", ["s"])], initialisers=[ints("s", -5)]),
        "constant-of-shape-many": model(
            [node("ConstantOfShape", ["s"], [f"c{i}"]) for i in range(50)] + [node("Relu")],
            initialisers=[ints("s", 10**9)]),
        "input": model([node("Relu")], {"x": [2**40, 2**40, 2**40]}),
        "input-zero-overflow": model([node("Relu")], {"x": [2**62, 4, 2**10]}),
        "expand": model([node("Expand", ["x", "s"])], initialisers=[ints("s", 10**6, 3, 8, 8 * 10**6)]),
        "tile": model([node("Tile", ["x", "s"])], initialisers=[ints("s", 10**6, 10**6, 1, 1)]),
        "pad": model([node("Pad", ["x", "s"])], initialisers=[ints("s", 0, 0, 10**9, 10**9, 0, 0, 0, 0)]),
        "resize": model([node("Resize", ["x", "", "r"])],
                        initialisers=[numpy_helper.from_array(np.array([1, 1, 1e8, 1e8], np.float32), "r")]),
        "conv-pads": model([node("Conv", ["x", "w"], pads=[10**9] * 4)], initialisers=[weight("w", 4, 3, 3,
        3)]), "range": model([node("Range", ["a", "b", "c"]), node("Relu", ["x"], ["z"])], outputs=("z",),
                       initialisers=[numpy_helper.from_array(np.array(v, np.float32), n)
                                     for n, v in (("a", 0), ("b", 1e18), ("c", 1e-18))]),
        "weight-without-data": model([node("Relu", ["w"])], initialisers=[
            TensorProto(name="w", data_type=1, dims=[10**6, 10**6])]),
        "weight-of-nothing": model([node("Relu", ["w"])], initialisers=[
            TensorProto(name="w", data_type=1, dims=[2**62, 2**62, 0])]),
        "doubling": model([node("Concat", [f"t{i}"] * 2, [f"t{i + 1}"], axis=0) for i in range(60)],
                          {"t0": [1, 3, 224, 224]}, ("t60",)),
        "many-outputs": model([node("Split", ["x"], [f"o{i}" for i in range(30_000)], axis=0)], {"x": [30_000]},
                              ("o0",)),
    }  # fmt: skip
    for name, data in cases.items():
        allowed = codes | {0} if name in ("weight-of-nothing",) else codes
        yield Case(f"memory-{name}", save(folder, f"memory-{name}", data), allowed)
    for batch in (10**6, 10**12, 2**63, 10**30):
        yield Case(f"memory-batch-{batch}", LIGHT / "light_squeezenet.onnx", frozenset({TOO_LARGE}), batch=batch)


def structure(folder: Path) -> Iterator[Case]:
    """Graphs that are no graphs."""
    relu = node("Relu")
    data = weight("w", 2, 2)
    bad_raw, bad_dims, text = weight("w", 2, 2), weight("w", 2, 2), weight("w", 2, 2)
    bad_raw.raw_data = b"123"
    bad_dims.dims[0] = -2
    text.data_type = TensorProto.STRING
    wrong_type = weight("w", 2, 2)
    wrong_type.data_type = 99
    int_conv = model([node("Conv", ["x", "w"])], initialisers=[
        numpy_helper.from_array(np.ones((4, 3, 3, 3), np.int64), "w")])  # fmt: skip
    no_name = weight("", 1)
    latin = model([relu])
    latin_bytes = latin.SerializeToString().replace(b"Relu", b"R\xe9l\xff")
    seq = model([relu])
    seq.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [1])))
    no_type = model([relu])
    no_type.graph.input[0].ClearField("type")
    no_opset, opset_zero, far_opset, no_ir = model([relu]), model([relu]), model([relu]), model([relu])
    no_opset.ClearField("opset_import")
    opset_zero.opset_import[0].version = 0
    far_opset.opset_import[0].version = 2**40
    no_ir.ClearField("ir_version")
    wrong_output = model([relu])
    wrong_output.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.INT64, [1, 3, 8, 8]))
    other_shape = model([relu])
    other_shape.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [9, 9]))
    sparse = model([relu])
    sparse.graph.sparse_initializer.append(onnx.SparseTensorProto(dims=[3]))
    twice = model([relu])
    twice.graph.node[0].attribute.extend([helper.make_attribute("a", 1), helper.make_attribute("a", 2)])
    untyped = model([relu])
    untyped.graph.node[0].attribute.append(helper.make_attribute("a", 2))
    untyped_bytes = untyped.SerializeToString().replace(encode_number(20, 2), encode_number(20, 77))
    nameless = model([relu])
    nameless.graph.node[0].attribute.append(onnx.AttributeProto(i=1, type=2))
    m = frozenset({MALFORMED})
    cases: dict[str, tuple[onnx.ModelProto | bytes, frozenset[int]]] = {
        "self-cycle": (model([node("Relu", ["y"], ["y"])]), m),
        "cycle": (model([node("Relu", ["b"], ["a"]), node("Relu", ["a"], ["b"]), node("Add", ["a", "x"])]),
        m), "long-cycle": (model([node("Relu", [f"t{(i + 1) % 5000}"], [f"t{i}"]) for i in range(5000)],
                             outputs=("t0",)), m),
        "reversed": (model([node("Relu", ["a"]), node("Relu", ["x"], ["a"])]), frozenset({0})),
        "undefined-input": (model([node("Add", ["x", "nobody"])]), m),
        "undefined-output": (model([relu], outputs=("z",)), m),
        "no-outputs": (model([relu], outputs=()), m),
        "output-twice": (model([relu], outputs=("y", "y")), m),
        "two-makers": (model([relu, node("Sigmoid")]), m),
        "makes-input": (model([node("Relu", ["x"], ["x"])], outputs=("x",)), m),
        "makes-weight": (model([node("Relu", ["x"], ["w"])], outputs=("w",), initialisers=[data]), m),
        "one-node-two-equal-outputs": (model([node("Split", ["x"], ["y", "y"])]), m),
        "weight-twice": (model([relu], initialisers=[data, data]), m),
        "weight-without-name": (model([relu], initialisers=[no_name]), m),
        "input-twice": (model([relu]).SerializeToString()
                        + encode_bytes(7, encode_bytes(11, encode_bytes(1, b"x"))), m),
        "raw-too-short": (model([node("Relu", ["w"])], initialisers=[bad_raw]), m),
        "negative-dims": (model([node("Relu", ["w"])], initialisers=[bad_dims]), m),
        "raw-text": (model([node("Relu", ["w"])], initialisers=[text]), m),
        "unknown-type": (model([node("Relu", ["w"])], initialisers=[wrong_type]), m),
        "mixed-types": (int_conv, m),
        "add-int-float": (model([node("Add", ["x", "w"])], initialisers=[ints("w", 1)]), m),
        "not-utf8": (latin_bytes, m), "sequence-input": (seq, m), "input-without-type": (no_type, m),
        "no-opset": (no_opset, m), "opset-zero": (opset_zero, m), "far-opset": (far_opset, m), "no-ir":
        (no_ir, m), "no-such-operator": (model([node("Frobnicate")]), frozenset({MALFORMED, INCONSISTENT})),
        "foreign-domain": (model([helper.make_node("Secret", ["x"], ["y"], domain="evil.example")]),
                           frozenset({INCONSISTENT})),
        "operator-too-new": (model([node("Gelu")], opset=9), ANY),
        "wrong-output-type": (wrong_output, m), "wrong-output-shape": (other_shape, frozenset({0})),
        "sparse": (sparse, frozenset({UNSUPPORTED})),
        "attribute-twice": (twice, m), "attribute-of-unknown-type": (untyped_bytes, m), "attribute-nameless":
        (nameless, m), "attribute-wrong-type": (model([node("Conv", ["x", "w"], strides="two")],
                                       initialisers=[weight("w", 4, 3, 3, 3)]), m),
        "no-inputs": (model([node("Conv", [])]), m), "empty-input": (model([node("Conv", ["", ""])]), m),
        "concat-nothing": (model([node("Concat", [], axis=0)]), m),
        "sum-nothing": (model([node("Sum", [])]), REFUSED),
        "constant-without-value": (model([node("Constant", [])]), m),
        "if-without-branches": (model([node("If", ["c"])], initialisers=[
            numpy_helper.from_array(np.array(True), "c")]), m),
        "unbound": (model([relu], {"x": ["N", 3, None, -1]}), frozenset({UNBOUND})),
    }  # fmt: skip
    for name, (content, codes) in cases.items():
        yield Case(f"structure-{name}", save(folder, f"structure-{name}", content), codes)


def attributes(folder: Path) -> Iterator[Case]:
    """Operators with attributes that divide by zero, overflow or contradict the data."""
    bad = frozenset({MALFORMED, INCONSISTENT, TOO_LARGE})
    big = 2**62
    conv = [
        {"strides": [0, 1]}, {"strides": [-1, 1]}, {"strides": [1]}, {"strides": [1, 1, 1]}, {"strides": [big,
        0]}, {"dilations": [0, 0]}, {"dilations": [big, big]}, {"dilations": [-3, 1]}, {"group": 0}, {"group":
        -1}, {"group": 2}, {"group": big}, {"pads": [-5, 0, 0, 0]}, {"pads": [0, 0]}, {"pads": [2**63 - 1] *
        4}, {"kernel_shape": [0, 0]}, {"kernel_shape": [5, 5]}, {"kernel_shape": [3]}, {"kernel_shape": [big,
        big]}, {"group": 1.5}, {"auto_pad": 3},
    ]  # fmt: skip
    for index, kwargs in enumerate(conv):
        made = model([node("Conv", ["x", "w"], **kwargs)], initialisers=[weight("w", 4, 3, 3, 3)])
        yield Case(f"conv-{index}", save(folder, f"conv-{index}", made), bad)
        if "group" not in kwargs or kwargs["group"] in (0, -1, 1.5):
            made = model([node("ConvTranspose", ["x", "w"], **kwargs)], initialisers=[weight("w", 3, 4, 3, 3)])
            yield Case(f"deconv-{index}", save(folder, f"deconv-{index}", made), bad | {0})
    pool = [{}, {"kernel_shape": [0, 0]}, {"kernel_shape": [-1, 2]}, {"kernel_shape": [100, 100]},
            {"kernel_shape": [2, 2], "strides": [0, 0]}, {"kernel_shape": [2, 2], "dilations": [0, 1]},
            {"kernel_shape": [2, 2], "pads": [-1, -1, -1, -1]}, {"kernel_shape": [big, 1], "dilations": [big,
            1]}, {"kernel_shape": "ab"}, {"kernel_shape": [2.5, 2.5]}]  # fmt: skip
    for index, kwargs in enumerate(pool):
        for kind in ("MaxPool", "AveragePool"):
            yield Case(f"{kind}-{index}", save(folder, f"{kind}-{index}", model([node(kind, **kwargs)])), bad)
    others = {
        "reshape-minus-two": model([node("Reshape", ["x", "s"])], initialisers=[ints("s", -2, 4)]),
        "reshape-two-open": model([node("Reshape", ["x", "s"])], initialisers=[ints("s", -1, -1)]),
        "reshape-open-zero": model([node("Reshape", ["x", "s"], allowzero=1)], initialisers=[ints("s", -1,
        0)]), "reshape-mismatch": model([node("Reshape", ["x", "s"])], initialisers=[ints("s", 7, 7)]),
        "reshape-far-zero": model([node("Reshape", ["x", "s"])], initialisers=[ints("s", 192, 1, 1, 1, 0)]),
        "reshape-floats": model([node("Reshape", ["x", "s"])], initialisers=[weight("s", 2)]),
        "reshape-by-input": model([node("Cast", ["x"], ["c"], to=7), node("Reshape", ["x", "c"])]),
        "transpose-twice": model([node("Transpose", perm=[0, 0, 1, 2])]),
        "transpose-short": model([node("Transpose", perm=[0])]),
        "transpose-far": model([node("Transpose", perm=[0, 1, 2, 9])]),
        "concat-axis": model([node("Concat", ["x", "x"], axis=99)]),
        "flatten-axis": model([node("Flatten", axis=-77)]),
        "split-sum": model([node("Split", ["x", "s"], ["y", "z"], axis=1)], initialisers=[ints("s", 5, 5)]),
        "split-negative": model([node("Split", ["x", "s"], ["y", "z"], axis=1)], initialisers=[ints("s", -5,
        8)]), "slice-step-zero": model([node("Slice", ["x", "a", "b", "c", "d"])], initialisers=[
            ints("a", 0), ints("b", 1), ints("c", 0), ints("d", 0)]),
        "slice-lengths": model([node("Slice", ["x", "a", "b"])], initialisers=[ints("a", 0, 0), ints("b",
        1)]), "slice-axis": model([node("Slice", ["x", "a", "b", "c"])], initialisers=[
            ints("a", 0), ints("b", 1), ints("c", 44)]),
        "squeeze-three": model([node("Squeeze", ["x", "s"])], initialisers=[ints("s", 1)]),
        "unsqueeze-twice": model([node("Unsqueeze", ["x", "s"])], initialisers=[ints("s", 0, 0)]),
        "unsqueeze-far": model([node("Unsqueeze", ["x", "s"])], initialisers=[ints("s", 2**62)]),
        "pad-negative": model([node("Pad", ["x", "s"])], initialisers=[ints("s", 0, 0, -99, 0, 0, 0, 0, 0)]),
        "pad-count": model([node("Pad", ["x", "s"])], initialisers=[ints("s", 1, 1)]),
        "gemm-inner": model([node("Gemm", ["x", "w"])], {"x": [2, 3]}, initialisers=[weight("w", 4, 5)]),
        "gemm-rank": model([node("Gemm", ["x", "x"])]),
        "matmul-scalar": model([node("MatMul", ["x", "w"])], initialisers=[weight("w")]),
        "broadcast": model([node("Add", ["x", "w"])], initialisers=[weight("w", 5, 7)]),
        "depth-to-space-zero": model([node("DepthToSpace", blocksize=0)]),
        "space-to-depth-zero": model([node("SpaceToDepth", blocksize=0)]),
        "space-to-depth-negative": model([node("SpaceToDepth", blocksize=-2)]),
        "resize-negative": model([node("Resize", ["x", "", "", "s"])], initialisers=[ints("s", 1, 3, -4,
        -4)]), "resize-nan": model([node("Resize", ["x", "", "r"])], initialisers=[
            numpy_helper.from_array(np.array([1, 1, np.nan, np.inf], np.float32), "r")]),
        "range-nan": model([node("Range", ["a", "a", "a"])], initialisers=[
            numpy_helper.from_array(np.array(np.nan, np.float32), "a")]),
        "range-zero": model([node("Range", ["a", "a", "b"])], initialisers=[
            numpy_helper.from_array(np.array(v, np.int64), n) for n, v in (("a", 3), ("b", 0))]),
        "reduce-axis": model([node("ReduceMean", axes=[9])]),
        "reduce-axes-equal": model([node("ReduceMean", axes=[1, 1])]),
        "argmax-axis": model([node("ArgMax", axis=9)]),
        "cast-unknown": model([node("Cast", to=9999)]),
        "batchnorm-size": model([node("BatchNormalization", ["x", "w", "w", "w", "w"])],
                                initialisers=[weight("w", 5)]),
        "expand-negative": model([node("Expand", ["x", "s"])], initialisers=[ints("s", -1)]),
        "tile-negative": model([node("Tile", ["x", "s"])], initialisers=[ints("s", -1, 1, 1, 1)]),
        "topk-huge": model([node("TopK", ["x", "s"], ["y", "z"])], initialisers=[ints("s", 2**62)]),
        "lstm-wrong": model([node("LSTM", ["x", "x", "x"], hidden_size=-3)]),
        "onehot": model([node("OneHot", ["x", "s", "w"])], initialisers=[ints("s", -8), weight("w", 2)]),
        "einsum": model([node("Einsum", equation="ij,jk,,->->zz")]),
        "gather-scalar": model([node("Gather", ["w", "s"])], initialisers=[weight("w"), ints("s", 0)]),
        "layernorm-axis": model([node("LayerNormalization", ["x", "w"], axis=7)], initialisers=[weight("w",
        8)]), "col2im": model([node("Col2Im", ["x", "s", "s"])], opset=18, initialisers=[ints("s", 0, -1)]),
        "roialign-zero": model([node("RoiAlign", ["x", "x", "x"], output_height=-1)]),
    }  # fmt: skip
    for index, equation in enumerate(
        ("-\u00ff", "-", "->->", "i-j", "i1,j->", "\0", "ij" * 50_000 + "->", "...." * 9, "...i...->i", "i->......")
    ):
        made = model([node("Einsum", equation=equation)])
        yield Case(f"einsum-{index}", save(folder, f"einsum-{index}", made), bad)
    lenient = {"reduce-axes-equal", "lstm-wrong", "topk-huge", "onehot", "col2im", "roialign-zero", "einsum"}
    for name, made in others.items():
        yield Case(f"attr-{name}", save(folder, f"attr-{name}", made), ANY if name in lenient else bad)
    division = model([node("Shape", ["x"], ["a"]), node("Sub", ["a", "a"], ["z"]), node("Div", ["a", "z"], ["d"]),
                      node("Mod", ["a", "z"], ["e"]), node("Reshape", ["x", "d"])])  # fmt: skip
    yield Case("attr-divide-by-zero", save(folder, "divide", division), bad)
    gather = model([node("Shape", ["x"], ["a"]), node("Gather", ["a", "i"], ["g"]), node("Reshape", ["x", "g"])],
                   initialisers=[ints("i", 99, -99)])  # fmt: skip
    yield Case("attr-gather-outside", save(folder, "gather", gather), bad)


def external(folder: Path) -> Iterator[Case]:
    """Weights in other files, and attempts to reach what is none of the model's business."""
    secret = folder / "secret.bin"
    secret.write_bytes(bytes(64))
    inside = folder / "model"
    inside.mkdir()
    (inside / "good.bin").write_bytes(bytes(64))
    (inside / "link.bin").symlink_to(secret)
    (inside / "up").symlink_to(folder)
    (inside / "loop.bin").symlink_to("loop.bin")
    (inside / "sub").mkdir()
    (inside / "hard.bin").hardlink_to(secret)
    os.mkfifo(inside / "fifo.bin")

    def made(location: str, **entries: str) -> onnx.ModelProto:
        tensor = TensorProto(name="w", data_type=1, dims=[4, 4], data_location=TensorProto.EXTERNAL)
        for key, value in {"location": location, **entries}.items():
            tensor.external_data.add(key=key, value=value)
        return model([node("Add", ["x", "w"])], {"x": [4, 4]}, initialisers=[tensor])

    unsafe, malformed, unreadable = frozenset({UNSAFE}), frozenset({MALFORMED}), frozenset({UNREADABLE})
    cases = {
        "good": (made("good.bin"), frozenset({0})),
        "good-explicit": (made("good.bin", offset="0", length="64"), frozenset({0})),
        "parent": (made("../secret.bin"), unsafe), "absolute": (made(str(secret)), unsafe),
        "passwd": (made("/etc/passwd"), unsafe), "hidden-parent": (made("sub/../../secret.bin"), unsafe),
        "dot-parent": (made("./../secret.bin"), unsafe), "backslash": (made("..\\secret.bin"), unsafe),
        "zero-byte": (made("good.bin\0.txt"), unsafe), "no-location": (made(""), unsafe),
        "link": (made("link.bin"), unsafe), "link-folder": (made("up/secret.bin"), unsafe),
        "hard-link": (made("hard.bin"), unsafe), "fifo": (made("fifo.bin"), unsafe),
        "folder": (made("sub"), unsafe), "loop": (made("loop.bin"), unreadable),
        "missing": (made("nowhere.bin"), unreadable), "long-name": (made("a" * 10_000), unreadable),
        "offset-beyond": (made("good.bin", offset="32"), malformed),
        "offset-huge": (made("good.bin", offset=str(2**62)), malformed),
        "offset-overflow": (made("good.bin", offset="9" * 40), malformed),
        "offset-negative": (made("good.bin", offset="-8"), malformed),
        "offset-text": (made("good.bin", offset="0x10"), malformed),
        "length-huge": (made("good.bin", length=str(2**60)), malformed),
        "length-short": (made("good.bin", length="8"), malformed),
        "length-negative": (made("good.bin", length="-1"), malformed),
        "length-unicode": (made("good.bin", length="\u0664"), malformed),
    }  # fmt: skip
    for name, (content, codes) in cases.items():
        path = save(inside, f"ext-{name}", content)
        yield Case(f"external-{name}", path, codes)
        yield Case(f"external-{name}-bytes", path, unsafe, as_bytes=True)


def values(folder: Path) -> Iterator[Case]:
    """Models in which the values that the caller gives decide shapes and branches."""
    body = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4]),
            helper.make_tensor_value_info("n", TensorProto.INT64, [])]  # fmt: skip

    def made(nodes: list[onnx.NodeProto], weights: tuple[TensorProto, ...] = ()) -> onnx.ModelProto:
        out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        return helper.make_model(
            helper.make_graph(nodes, "values", body, [out], list(weights)),
            opset_imports=[helper.make_opsetid("", 17)], ir_version=10,
        )  # fmt: skip

    def nested(depth: int, wide: int) -> list[onnx.NodeProto]:
        """An If whose branches both hold such Ifs."""
        if not depth:
            return [node("Relu", outputs=["r0"])]
        return [helper.make_node("If", ["c"], [f"k{depth}_{i}"], **branches(depth - 1, wide)) for i in range(wide)]

    def branches(depth: int, wide: int) -> dict[str, onnx.GraphProto]:
        kids = nested(depth, wide)
        out = [helper.make_tensor_value_info(kids[-1].output[0], TensorProto.FLOAT, None)]
        return {f"{name}_branch": helper.make_graph(kids, name, [], out) for name in ("then", "else")}

    condition = node("Cast", ["n"], ["c"], to=TensorProto.BOOL)
    for depth, wide in ((2, 3), (6, 1), (4, 3), (7, 2)):
        tree = made([condition, helper.make_node("If", ["c"], ["y"], **branches(depth, wide))])
        path = save(folder, f"tree-{depth}-{wide}", tree)
        for value in ({}, {"n": 0}, {"n": 1}):
            yield Case(f"if-tree-{depth}-{wide}-{len(value)}", path, frozenset({0, TOO_LARGE}), values=value)
    to_shape = [node("Unsqueeze", ["n", "zero"], ["s"]), node("Expand", ["x", "s"])]
    grow = [node("Range", ["nought", "n", "one"], ["r"]), node("Cast", ["r"], to=TensorProto.FLOAT)]
    half = {"then_branch": branches(0, 1)["then_branch"]}
    cases = {
        "expand": made([node("Unsqueeze", ["n", "zero"], ["s0"]), node("Concat", ["s0", "four"], ["s"], axis=0),
                        node("Expand", ["x", "s"])], (ints("zero", 0), ints("four", 4))),
        "expand-flat": made(to_shape, (ints("zero", 0),)),
        "range": made(grow, (numpy_helper.from_array(np.array(0), "nought"),
                             numpy_helper.from_array(np.array(1), "one"))),
        "half-an-if": made([condition, helper.make_node("If", ["c"], ["y"], **half)]),
        "loop": made([condition, node("Loop", ["n", "c", "x"])]),
        "not-read": made([node("Relu")]),
    }  # fmt: skip
    for name, content in cases.items():
        path = save(folder, name, content)
        for value in (0, 1, -1, 2**31, 2**40, 2**62, -(2**63), 2**63, 1e300, 0.5, True, [1], [[1, 2]], "n"):
            yield Case(f"value-{name}-{value}", path, ANY, values={"n": value})
        yield Case(f"value-{name}-wrong-name", path, frozenset({2}), values={"m": 1})
        yield Case(f"value-{name}-many", path, ANY, values={"n": 4, "x": [[0.5] * 100_000]})


MAKERS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (
        flipped,
        truncated,
        spliced,
        weighted,
        no_onnx,
        bombs,
        memory,
        structure,
        attributes,
        external,
        values,
    )
}
