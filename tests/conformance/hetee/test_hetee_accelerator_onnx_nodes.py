"""The operator tests of ONNX, through a real worker and sealed frames: the verdict is that of ONNX Runtime alone."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TypeProto, numpy_helper

from sectum.hetee.wire import messages
from sectum.testing.worker_peer import Client, WorkerUnderTest

# Their results are drawn anew in every run.
RANDOM = ("bernoulli", "dropout", "random")
TRAVELLING = set(messages.Dtype.__args__) - {"bfloat16"}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """One session for all operators."""
    with WorkerUnderTest() as worker:
        yield worker.assign()


def cases() -> list:
    """The operators' tests that come with the onnx package; making them takes seconds."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():  # some divide by zero on purpose
        warnings.simplefilter("ignore")
        return [case for case in load_model_tests(kind="node") if case.model is not None]


def dtype_of(kind: TypeProto) -> str:
    """The name of a tensor's type as it travels; empty for what is no tensor."""
    if kind.WhichOneof("value") != "tensor_type":
        return ""
    code = kind.tensor_type.elem_type
    return "string" if code == onnx.TensorProto.STRING else onnx.helper.tensor_dtype_to_np_dtype(code).name


def alone(content: bytes, inputs: dict[str, np.ndarray]) -> list[np.ndarray] | None:
    """What ONNX Runtime gives by itself; None if it fails."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    runs = onnxruntime.RunOptions()
    runs.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return session.run(None, inputs, runs)
    except Exception:  # noqa: BLE001  # its own classes
        return None


def through(client: Client, content: bytes, inputs: dict[str, np.ndarray]) -> list[np.ndarray] | None:
    """What comes out of the worker; None if it refuses."""
    loaded = client.load(content)
    if isinstance(loaded, messages.Failure):
        return None
    answer = client.infer(loaded.sha256, inputs)
    return None if answer.refused else list(answer.outputs.values())


def test_every_operator_has_the_same_verdict(client: Client) -> None:
    """Whatever ONNX Runtime computes alone comes out the same, bit for bit; what it refuses is refused."""
    verdicts: Counter[str] = Counter()
    different = []
    for case in cases():
        graph = case.model.graph
        if {dtype_of(info.type) for info in (*graph.input, *graph.output)} - TRAVELLING:
            verdicts["cannot travel"] += 1
            assert isinstance(client.load(case.model.SerializeToString()), messages.Failure), case.name
            continue
        content = case.model.SerializeToString()
        inputs = {
            info.name: np.asarray(value) if isinstance(value, np.ndarray | np.generic) else numpy_helper.to_array(value)
            for info, value in zip(graph.input, case.data_sets[0][0], strict=False)
        }
        expected, got = alone(content, inputs), through(client, content, inputs)
        verdicts["refused" if expected is None else "computed"] += 1
        if (expected is None) != (got is None):
            different.append(case.name)
        elif expected is not None and got is not None:
            same = all(
                (a.shape, a.dtype) == (b.shape, b.dtype)
                and (any(word in case.name for word in RANDOM) or a.tobytes() == b.tobytes() or a.dtype == object)
                for a, b in zip(expected, got, strict=True)
            )
            different += [] if same else [case.name]
    assert different == []
    assert verdicts["computed"] > 1000
    assert verdicts["refused"] > 100
