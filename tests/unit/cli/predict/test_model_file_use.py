"""A command opens, reads and parses the model's file once, and holds no weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from sectum import zoo
from sectum.graph.protobuf import encode_bytes, encode_header, encode_number

MIB = 1 << 20
PEAK_MIB = 300

COUNTING = """
import json, sys
from pathlib import Path
from sectum.cli.main import main
from sectum.graph.onnx_format import Parser

path = sys.argv[2]
counts = {"opened": 0, "parsed": 0}

def hook(event, arguments):
    counts["opened"] += event in ("open", "os.open") and str(arguments[0]) == path

def parse(parser, real=Parser.model):
    counts["parsed"] += 1
    return real(parser)

sys.addaudithook(hook)
Parser.model = parse
try:
    main()
finally:
    status = Path("/proc/self/status").read_text()
    counts["peak_kib"] = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    print(json.dumps(counts), file=sys.stderr)
"""


def run(*arguments: str) -> tuple[str, dict[str, int]]:
    """Run a command; returns what it prints, and how it used the file."""
    command = [sys.executable, "-c", COUNTING, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(done.stderr.splitlines()[-1])


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 45 MiB whose batch is open: it is bound for the prediction, and for each batch that is tried."""
    path = tmp_path_factory.mktemp("models") / "resnet18.onnx"
    zoo.write(zoo.network("resnet18"), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("epc", ["80MiB", "20MiB"], ids=["batches", "paging"])
@pytest.mark.parametrize("command", ["predict", "report"])
def test_the_file_is_opened_and_parsed_once(command: str, epc: str, resnet18: Path, tmp_path: Path) -> None:
    """All advice, the digest and the report's curve come from one reading of the file."""
    options = ("-o", str(tmp_path / "page.html")) if command == "report" else ()
    printed, counts = run(command, str(resnet18), "--epc", epc, "--json", *options)
    kinds = {item["kind"] for item in json.loads(printed)["advice"]}
    assert {"layers", "batch"} <= kinds
    assert ("epc" in kinds) == (epc == "20MiB")
    assert (counts["opened"], counts["parsed"]) == (1, 1)


@pytest.mark.slow
def test_weights_take_no_memory(tmp_path: Path) -> None:
    """A model with 600 MiB of weights is predicted with less than half of that in memory."""
    path = tmp_path / "large.onnx"
    write_with_weights(path, 600 * MIB)
    _, counts = run("predict", str(path), "--json")
    assert counts["peak_kib"] < PEAK_MIB * 1024


def write_with_weights(path: Path, n_bytes: int) -> None:
    """Write a fully connected layer whose weights are a hole in the file: zeros that take no room on the disk."""
    outputs = n_bytes // (4 * 1024)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"])],
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1024])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, outputs])],
    ).SerializeToString()
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1024, outputs]).SerializeToString()
    weight += encode_header(9, n_bytes)
    before = graph + encode_header(5, len(weight) + n_bytes) + weight
    head = encode_number(1, 8) + encode_bytes(8, encode_number(2, 17)) + encode_header(7, len(before) + n_bytes)
    with path.open("wb") as file:
        file.write(head + before)
        file.truncate(file.tell() + n_bytes)
