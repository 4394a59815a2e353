"""`memory_plan` is held against the block that ONNX Runtime asks its arena for, in the same session."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from optimized_graphs import as_optimized
from places import LIGHT, SUPPORT
from sectum import zoo
from sectum.graph import Graph, Operator, Tensor, TensorKind, read
from sectum.ort.memory_plan import ALIGNMENT_BYTES, Storage, memory_plan

PROBE = SUPPORT / "arena_probe.py"
LIGHT_NAMES = (
    "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet", "vgg19",
    "zfnet512",
)  # fmt: skip
ZOO_NAMES = (
    "convnext_tiny", "efficientnet_b0", "googlenet", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf",
    "resnet18", "shufflenet_v2_x1_0",
)  # fmt: skip


def assert_block_equals_the_arenas(model_bytes: bytes, folder: Path) -> None:
    """The first request of a second inference, from an arena without free memory, is the planned block."""
    path = folder / "model.onnx"
    path.write_bytes(model_bytes)
    done = subprocess.run(
        [sys.executable, str(PROBE), str(path)], capture_output=True, text=True, timeout=300, check=True
    )
    second = done.stderr.split("-- second inference --")[1]
    requests = [int(n) for n in re.findall(r"\(requested\) num_bytes: (\d+)", second)]
    assert json.loads(done.stdout)["planned_block_bytes"] == requests[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", LIGHT_NAMES)
def test_light_models_get_the_block_that_is_planned(name: str, tmp_path: Path) -> None:
    """For the CNNs of the onnx package the planned block equals the runtime's request to its arena."""
    assert_block_equals_the_arenas((LIGHT / f"light_{name}.onnx").read_bytes(), tmp_path)


@pytest.mark.slow
def test_a_batch_gets_the_block_that_is_planned(tmp_path: Path) -> None:
    """For a batch of four the planned block equals the runtime's request."""
    model = read(LIGHT / "light_shufflenet.onnx", batch=4)
    assert_block_equals_the_arenas(model.bound_bytes(), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO_NAMES)
def test_zoo_networks_get_the_block_that_is_planned(name: str, tmp_path: Path) -> None:
    """For zoo networks of eight families the planned block equals the runtime's request."""
    assert_block_equals_the_arenas(zoo.to_bytes(zoo.network(name, resolution=64, width=0.25), batch=1), tmp_path)


# These three have gaps behind the last buffer that decide where a later one goes.
@pytest.mark.slow
@pytest.mark.parametrize(("family", "seed"), [("squeezenet", 0), ("squeezenet", 1), ("mobilenet_v2", 1)])
def test_fragmented_plans_get_the_block_that_is_planned(family: str, seed: int, tmp_path: Path) -> None:
    """Where the block has gaps, the planned block still equals the runtime's request."""
    architecture = zoo.sample(family, random.Random(seed))
    assert_block_equals_the_arenas(zoo.to_bytes(architecture, batch=1), tmp_path)


def chain(*steps: tuple[str, str], shape: tuple[int, ...] = (1, 8, 4, 4)) -> Graph:
    """A graph in which each step reads one tensor: ``(type, input)`` makes ``t0``, ``t1``, ..."""
    tensors = {"x": Tensor("x", shape, "float32", TensorKind.INPUT)}
    operators = []
    for index, (kind, source) in enumerate(steps):
        name = f"t{index}"
        tensors[name] = Tensor(name, shape, "float32", TensorKind.ACTIVATION)
        operators.append(Operator(name, kind, (source,), (name,)))
    return as_optimized(Graph("chain", tuple(operators), tensors, ("x",), (f"t{len(steps) - 1}",), 17))


def test_an_activation_overwrites_its_input_only_at_the_last_use() -> None:
    """A ReLU works in place if nobody reads its input later, and gets a buffer of its own otherwise."""
    plan = memory_plan(chain(("LRN", "x"), ("Relu", "t0"), ("LRN", "t1")))
    assert plan.placements["t1"].buffer == "t0"
    plan = memory_plan(chain(("LRN", "x"), ("Relu", "t0"), ("LRN", "t0"), ("LRN", "t2")))
    assert plan.placements["t1"].buffer == "t1"


def test_an_input_of_the_graph_is_never_overwritten() -> None:
    """A ReLU of the graph's input gets a buffer: the input belongs to the caller."""
    plan = memory_plan(chain(("Relu", "x"), ("LRN", "t0")))
    assert plan.placements["t0"].buffer == "t0"
    assert plan.placements["x"].storage is Storage.CALLER


def test_a_reshape_is_another_name() -> None:
    """A reshape has the buffer of its input."""
    plan = memory_plan(chain(("Flatten", "x"), ("LRN", "t0"), ("Reshape", "t1"), ("LRN", "t2")))
    assert plan.placements["t0"].storage is Storage.CALLER
    assert plan.placements["t2"].buffer == "t1"


def test_graph_outputs_are_allocated_apart() -> None:
    """An output of the graph is not in the block, but an allocation of its own."""
    plan = memory_plan(chain(("LRN", "x"), ("LRN", "t0")))
    assert plan.placements["t1"].storage is Storage.OUTPUT
    assert plan.block_bytes == plan.output_bytes == 512


def test_dead_buffers_of_the_same_shape_are_used_again() -> None:
    """A chain of equal tensors needs two buffers, whatever its length."""
    plan = memory_plan(chain(*[("LRN", "x" if i == 0 else f"t{i - 1}") for i in range(6)]))
    assert len({p.buffer for p in plan.placements.values() if p.storage is Storage.PATTERN}) == 2
    assert plan.block_bytes == 2 * 512


def test_sizes_are_rounded_up() -> None:
    """A buffer is at least as large as the alignment."""
    plan = memory_plan(chain(("LRN", "x"), ("LRN", "t0"), shape=(1, 1, 1, 1)))
    assert plan.placements["t0"].n_bytes == ALIGNMENT_BYTES
