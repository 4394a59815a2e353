"""The backend tests of ONNX through a whole service: client, host, controller, worker, sealed all the way.

The verdict on each has to be that of ONNX Runtime alone. ``python -m tests.conformance.hetee.test_onnx_backend``
prints the score.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, TypeProto, numpy_helper

from hetee_rack import Rack
from sectum.hetee.client import Session
from sectum.hetee.data_plane.messages import Dtype
from sectum.hetee.errors import Refusal, WorkRefused

# Their results are drawn anew in every run.
RANDOM = ("bernoulli", "dropout", "random")
# Those of the kind "real" are networks to be downloaded.
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
# NumPy and ONNX Runtime's Python have no bfloat16.
TRAVELLING = set(get_args(Dtype)) - {"bfloat16"}
LEFT = ("sequence", "optional", "bfloat16", "float8", "float4", "int4", "uint4", "int2", "uint2")

Arrays = dict[str, np.ndarray]


class Case(NamedTuple):
    """A test of ONNX: a model, and inputs for it."""

    name: str
    model: onnx.ModelProto
    inputs: list[Any]

    def kinds(self) -> set[str]:
        """The types of what goes in and out."""
        graph = self.model.graph
        return {kind_of(info.type) for info in (*graph.input, *graph.output)}

    def arrays(self) -> Arrays:
        """Its inputs by name."""
        return {
            info.name: np.asarray(value) if isinstance(value, np.ndarray | np.generic) else numpy_helper.to_array(value)
            for info, value in zip(self.model.graph.input, self.inputs, strict=False)
        }


@dataclass
class Score:
    """The outcomes of all cases.

    Attributes:
        computed: names of those with a result, which is the same both ways.
        refused: those that neither computes.
        left: of each type that cannot travel, those that need it; the service refused them all.
        different: those with another verdict through the service, which is none.
    """

    computed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    left: dict[str, list[str]] = field(default_factory=dict)
    different: list[str] = field(default_factory=list)

    @property
    def n_left(self) -> int:
        """How many cannot travel; a case may need several such types."""
        return len({name for names in self.left.values() for name in names})

    @property
    def carried(self) -> float:
        """The share of all cases whose tensors travel."""
        n_travelled = len(self.computed) + len(self.refused) + len(self.different)
        return n_travelled / (n_travelled + self.n_left)


def kind_of(kind: TypeProto) -> str:
    """The type of a tensor as the protocol calls it, or what the value is in place of a tensor."""
    value = kind.WhichOneof("value")
    if value != "tensor_type":
        return str(value)
    code = kind.tensor_type.elem_type
    if code == TensorProto.STRING:
        return "string"
    name = onnx.helper.tensor_dtype_to_np_dtype(code).name
    return name if name in TRAVELLING else TensorProto.DataType.Name(code).lower()


def cases() -> Iterator[Case]:
    """The tests that come with the onnx package; making them takes seconds."""
    from onnx.backend.test.loader import load_model_tests

    for kind in KINDS:
        with warnings.catch_warnings():  # some divide by zero on purpose
            warnings.simplefilter("ignore")
            found = load_model_tests(kind=kind)
        for case in found:
            if case.model is not None:
                yield Case(case.name, case.model, list(case.data_sets[0][0]))
            else:
                yield stored(case.name, Path(case.model_dir))


def stored(name: str, folder: Path) -> Case:
    """A test in files."""
    model = onnx.load(folder / "model.onnx")
    files = sorted((folder / "test_data_set_0").glob("input_*.pb"), key=lambda file: int(file.stem.partition("_")[2]))
    tensors = []
    for file in files:
        tensor = TensorProto()
        tensor.ParseFromString(file.read_bytes())
        tensors.append(tensor)
    return Case(name, model, tensors)


def alone(content: bytes, inputs: Arrays) -> Arrays | None:
    """What ONNX Runtime gives by itself; None if it fails."""
    options, runs = onnxruntime.SessionOptions(), onnxruntime.RunOptions()
    options.intra_op_num_threads, options.log_severity_level, runs.log_severity_level = 1, 4, 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        results = session.run(None, inputs, runs)
    except Exception:  # noqa: BLE001  # its own classes
        return None
    return {output.name: result for output, result in zip(session.get_outputs(), results, strict=True)}


def through(session: Session, content: bytes, inputs: Arrays) -> Arrays | None:
    """The service's outputs; None if it refuses the model or the batch."""
    try:
        model = session.load(content)
    except WorkRefused:
        return None
    try:
        return session.infer(inputs).outputs
    except WorkRefused:
        return None
    finally:
        session.unload(model)  # an enclave holds a limited number


def same(name: str, expected: Arrays, got: Arrays) -> bool:
    """Whether results are the same, bit for bit; of random ones only names, shapes and types."""
    if [(key, a.shape, a.dtype) for key, a in expected.items()] != [(key, a.shape, a.dtype) for key, a in got.items()]:
        return False
    if any(word in name for word in RANDOM):
        return True
    return all(
        a.tolist() == b.tolist() if a.dtype == object else a.tobytes() == b.tobytes()
        for a, b in zip(expected.values(), got.values(), strict=True)
    )


def run(session: Session) -> Score:
    """Give every case to the service and to ONNX Runtime."""
    score = Score()
    for case in cases():
        content = case.model.SerializeToString()
        if missing := case.kinds() - TRAVELLING:
            for kind in missing:
                score.left.setdefault(kind, []).append(case.name)
            with pytest.raises(WorkRefused) as caught:
                session.load(content)
            assert caught.value.code is Refusal.MODEL_REFUSED, case.name
            continue
        inputs = case.arrays()
        expected, got = alone(content, inputs), through(session, content, inputs)
        if expected is None and got is None:
            score.refused.append(case.name)
        elif expected is not None and got is not None and same(case.name, expected, got):
            score.computed.append(case.name)
        else:
            score.different.append(case.name)
    return score


@pytest.mark.slow
def test_every_operator_has_the_same_verdict() -> None:
    """The service computes what ONNX Runtime computes alone, bit for bit, and refuses what it refuses."""
    with Rack("cpu=1") as rack, rack.connect() as session:
        score = run(session)
    assert score.different == []
    assert len(score.computed) > 1300
    # What the protocol does not carry: values that are no tensors, and types that NumPy does not have.
    assert all(kind.startswith(LEFT) for kind in score.left), sorted(score.left)
    assert score.carried > 0.85


def main() -> None:
    """Print the score as JSON."""
    with Rack("cpu=1") as rack, rack.connect() as session:
        score = run(session)
    counts = Counter({kind: len(names) for kind, names in score.left.items()})
    found = {
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "computed_bit_for_bit_the_same": len(score.computed),
        "refused_by_both": len(score.refused),
        "different": score.different,
        "cannot_travel": score.n_left,
        "types_that_cannot_travel": dict(counts.most_common()),
        "carried_share": round(score.carried, 4),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
