"""Unmodified ONNX Runtime has bit for bit the same outputs in the enclave as outside."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx", reason="the models of the onnx wheel are needed")
numpy = pytest.importorskip("numpy")
pytest.importorskip("onnxruntime", reason="the runtime is what is tested here")

INFER = """
import hashlib, sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
options.log_severity_level = 3
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
random = numpy.random.default_rng(0)
digest = hashlib.sha256()
for _ in range(2):
    inputs = {i.name: random.standard_normal(i.shape).astype(numpy.float32) for i in session.get_inputs()}
    for output in session.run(None, inputs):
        digest.update(output.tobytes())
print(digest.hexdigest(), numpy.unique(output).size)
"""


@pytest.fixture(scope="session")
def model(request, tmp_path_factory) -> Path:
    """A network of the onnx wheel with random weights, because its constant weights would hide a lost page."""
    source = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"{request.param}.onnx"
    if not source.exists():
        pytest.skip("this onnx wheel has no light models")
    network = onnx.load(str(source))
    random = numpy.random.default_rng(1)
    shapes = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in network.graph.initializer}
    nodes = list(network.graph.node)
    del network.graph.node[:]
    for node in nodes:
        if node.op_type != "ConstantOfShape":
            network.graph.node.append(node)
            continue
        shape = shapes[node.input[0]]
        if len(shape) > 1:
            values = random.standard_normal(shape) * numpy.sqrt(2 / numpy.prod(shape[1:]))
        else:
            values = random.uniform(0.5, 1.5, shape)
        tensor = onnx.numpy_helper.from_array(values.astype(numpy.float32), node.output[0])
        network.graph.initializer.append(tensor)
    logits = network.graph.node[-1].input[0]  # of the softmax, which alone would hide small differences
    network.graph.output.append(onnx.helper.make_empty_tensor_value_info(logits))
    path = tmp_path_factory.mktemp("model") / f"{request.param}.onnx"
    onnx.save(network, str(path))
    return path


@pytest.mark.parametrize(
    ("model", "threads"),
    [("light_squeezenet", "1"), ("light_inception_v1", "2")],
    indirect=["model"],
)
def test_the_output_equals_the_native_output(enclave, model, threads, tmp_path):
    """Whatever the budget, the policy and the number of threads, the output bytes are those of a native run."""
    native = subprocess.run(
        [sys.executable, "-c", INFER, str(model), threads], capture_output=True, text=True, check=True
    ).stdout
    assert int(native.split()[1]) > 100, "an output of constants would prove nothing"
    small_mib = 16 if "inception" in model.name else 4  # about half of what is live
    for budget_mib, policy in [(0, "second-chance"), (small_mib, "second-chance"), (small_mib, "fifo")]:
        report = tmp_path / "report.json"
        inside = enclave.python(
            INFER, str(model), threads, budget_bytes=budget_mib << 20, policy=policy, report=report, timeout_s=300
        )
        assert inside.stdout == native, inside.stderr
        counters = json.loads(report.read_text())
        assert counters["faults"] > 1000
        if budget_mib:
            assert counters["loads"] > 1000
            assert counters["peak_resident_bytes"] == budget_mib << 20
