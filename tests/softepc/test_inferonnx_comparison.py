"""The comparison with the partitions of InferONNX: the cuts that are rebuilt, and what an enclave makes of them."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

from sectum import zoo
from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.runner import Job
from sectum.errors import EnclaveTampered, EnclaveUnavailable
from sectum.units import MIB

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def comparison() -> ModuleType:
    """The benchmark, as a module."""
    spec = importlib.util.spec_from_file_location("plan_inferonnx", ROOT / "benchmarks" / "plan_inferonnx.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for their types
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def network() -> bytes:
    """A small SqueezeNet."""
    return zoo.to_bytes(zoo.network("squeezenet1_1", resolution=64), batch=1)


def test_a_pointer_states_the_size_of_its_file(comparison: ModuleType) -> None:
    """A pointer of Git LFS gives the size that it states; a model is no pointer."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4484355\n"
    assert comparison.pointed_bytes(pointer) == 4484355
    assert comparison.pointed_bytes(b"\x08\x07\x12\x00") is None


@pytest.mark.parametrize(
    ("weights", "sizes", "expected"),
    [
        ([40_000, 0, 10_000, 50_000, 0], [40_100, 60_200], [0, 1, 5]),
        ([40_000, 0, 10_000, 50_000, 0], [40_100, 300, 60_200], [0, 1, 2, 5]),
        ([8_000] * 6, [16_000, 16_100, 16_200], [0, 2, 4, 6]),
        ([0, 0, 5_000], [200, 200, 5_100], [0, 1, 2, 3]),
    ],
)
def test_cuts_lie_where_the_weights_have_the_published_sizes(
    comparison: ModuleType, weights: list[int], sizes: list[int], expected: list[int]
) -> None:
    """A cut lies where the weights before it are nearest to the sizes before it; small files have one operator."""
    assert comparison.bounds(weights, sizes) == expected


def test_rebuilt_sub_models_have_all_weights_once(comparison: ModuleType, network: bytes) -> None:
    """Each operator of the network is in one sub-model, with its weights, and the files are as large as published."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(network))
    sizes = [1_000_000, 300, 2_000_000, 1_900_000]
    parts = [onnx.load_from_string(one) for one in comparison.rebuilt(model, sizes)]
    assert [node.name for part in parts for node in part.graph.node] == [node.name for node in model.graph.node]
    assert len(parts[1].graph.node) == 1
    share = sum(one.ByteSize() for one in parts) / sum(sizes)
    for part, size in zip(parts, sizes, strict=True):
        if size > 4096:
            assert part.ByteSize() == pytest.approx(share * size, rel=0.35)


@pytest.fixture(scope="module")
def sealed(comparison: ModuleType, network: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Four sealed sub-models."""
    folder = tmp_path_factory.mktemp("sealed")
    path = folder / "network.onnx"
    path.write_bytes(network)
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    parts = comparison.rebuilt(model, [1_000_000, 300, 2_000_000, 1_900_000])
    partition = comparison.Partition(str(path), parts, "a test", [])
    try:
        comparison.LoadingRunner().check()
    except EnclaveUnavailable as error:
        pytest.skip(f"no software enclave here: {error}")
    return comparison.sealed(partition, folder)


@pytest.mark.slow
def test_sub_models_give_what_the_network_gives(comparison: ModuleType, network: bytes, sealed: dict) -> None:
    """Loaded one after the other, sub-models give the network's results, and open all of their files each time."""
    with NativeRunner().start(Job(model=network)) as session:
        wanted = session.outputs()
    with comparison.LoadingRunner().start(Job(model=network, epc_bytes=16 * MIB, streams=sealed)) as session:
        got = session.outputs()
        told = session.streaming()
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-3, atol=1e-5)
    assert told["opened_bytes"] == sum(Path(one["path"]).stat().st_size - 16 for one in sealed["parts"])
    assert min(told[f"{part}_ns"] for part in ("opening", "loading", "computing")) > 0


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["flip", "swap"])
def test_a_changed_sub_model_ends_the_run(
    comparison: ModuleType, network: bytes, sealed: dict, attack: str, tmp_path: Path
) -> None:
    """A sub-model that was changed, or put in the place of another, ends the run as tampered memory does."""
    told = json.loads(json.dumps(sealed))
    first, last = told["parts"][0], told["parts"][2]
    if attack == "swap":
        first["path"], last["path"] = last["path"], first["path"]
    else:
        content = bytearray(Path(first["path"]).read_bytes())
        content[1000] ^= 1
        first["path"] = str(tmp_path / "changed")
        Path(first["path"]).write_bytes(content)
    job = Job(model=network, epc_bytes=16 * MIB, streams=told)
    with comparison.LoadingRunner().start(job) as session, pytest.raises(EnclaveTampered, match="not the one"):
        session.sample(1)
