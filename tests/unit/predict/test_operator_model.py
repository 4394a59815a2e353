"""Reading stored operator models."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from sectum.errors import ArtefactInvalid
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.predict.features import extract
from sectum.predict.operator_model import SHIPPED, OperatorModel


@pytest.fixture
def copy(tmp_path):
    """The shipped artefact, to be damaged."""
    folder = tmp_path / "operators"
    shutil.copytree(SHIPPED[Cpu.AVX2], folder)
    return folder


def edit(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("cpu", SHIPPED)
def test_no_unit_of_work_is_dear(cpu):
    """A product, a byte or the start of a kernel takes less than a reference kernel, which is millions of them."""
    for of_group in OperatorModel.load(SHIPPED[cpu]).linear.costs.values():
        for cost in of_group.values():
            assert cost.max() < 0.1


def test_every_operator_takes_some_time(operators, squeezenet):
    """An operator is never free."""
    features = extract(optimize(squeezenet, Cpu.AVX2), threads=1)
    times = operators.normalized_latencies(features)
    assert times.shape == (len(features.kinds),)
    assert np.isfinite(times).all()
    assert (times > 0).all()


def test_a_flipped_bit_in_a_model_is_refused(copy, squeezenet):
    """A model file whose SHA-256 is not the manifest's is not used."""
    path = copy / "conv.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtefactInvalid, match="SHA-256"):
        OperatorModel.load(copy).normalized_latencies(extract(optimize(squeezenet, Cpu.AVX2), threads=1))


def test_models_of_other_features_are_refused(copy):
    """An artefact trained with another feature schema is refused when it is loaded."""
    edit(copy, schema_sha256="0" * 64)
    with pytest.raises(ArtefactInvalid, match="other features"):
        OperatorModel.load(copy)


def test_a_manifest_cannot_name_a_file_elsewhere(copy, squeezenet):
    """A file name with a path in it is refused, even if the file exists."""
    groups = json.loads((copy / "manifest.json").read_text())["groups"]
    groups["conv"]["file"] = "../operators/conv.onnx"
    edit(copy, groups=groups)
    with pytest.raises(ArtefactInvalid, match="outside its folder"):
        OperatorModel.load(copy).normalized_latencies(extract(optimize(squeezenet, Cpu.AVX2), threads=1))


def test_a_changed_support_is_refused(copy, squeezenet):
    """The file of measured sizes is checked against the manifest as the models are."""
    path = copy / "support.npz"
    path.write_bytes(path.read_bytes().replace(b"Conv", b"Corn", 1))
    with pytest.raises(ArtefactInvalid, match="SHA-256"):
        OperatorModel.load(copy).support.places(extract(optimize(squeezenet, Cpu.AVX2), threads=1))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"text"', b"\xff\xfe"])
def test_a_damaged_manifest_is_refused(copy, content):
    """Bytes that are no manifest give a clear error."""
    (copy / "manifest.json").write_bytes(content)
    with pytest.raises(ArtefactInvalid, match=r"manifest\.json|other features"):
        OperatorModel.load(copy)


def test_a_missing_artefact_is_named(tmp_path):
    """A folder without a manifest gives an error with its path."""
    with pytest.raises(ArtefactInvalid, match=str(tmp_path)):
        OperatorModel.load(tmp_path)
