"""Training the artefacts of the paper's method."""

from __future__ import annotations

import json
import shutil

import pytest

from measured_networks import DATASET
from sectum import zoo
from sectum.enclave import profile as profiles
from sectum.errors import UsageError
from sectum.ort.cpu import Cpu
from sectum.predict import OperatorModel, Predictor, shipped_for
from sectum.units import MIB

pytest.importorskip("torch", reason="graph networks need PyTorch: install sectum[learn]")
pytest.importorskip("lightgbm", reason="learners are trained by LightGBM: install sectum[train]")
pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")

from sectum.lab import paper
from sectum.lab.detector import ARTEFACTS
from sectum.lab.training import paper as training

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """A dataset of the first stored shard alone: networks of a machine with AVX2."""
    folder = tmp_path_factory.mktemp("networks")
    shutil.copy(min(DATASET.glob("*.parquet")), folder)
    return folder


def test_what_is_trained_predicts(shard, tmp_path, monkeypatch):
    """The files that training writes are those that the method reads, and the manifest states accuracy and origin."""
    monkeypatch.setattr(training, "EPOCHS", 1)
    monkeypatch.setattr(training, "usable_cpus", lambda: 1)
    manifest = training.train(shard, tmp_path / "avx2", Cpu.AVX2)
    assert json.loads((tmp_path / "avx2" / "manifest.json").read_text()) == manifest
    assert manifest["training"]["held_out_networks"] > 0
    assert set(manifest["accuracy"]) == {"held_out", "boundary"}
    monkeypatch.setitem(ARTEFACTS, Cpu.AVX2, tmp_path / "avx2")
    method = paper.PaperMethod(Predictor(OperatorModel.load(shipped_for(Cpu.AVX2))))
    found = method.predict(zoo.to_graph(zoo.network("alexnet"), 1), profiles.load("softepc").with_epc(64 * MIB))
    assert found.overcommit.predicted
    assert found.latency_ms > found.native_ms > 0


def test_a_dataset_without_such_machines_is_refused(shard, tmp_path):
    """Networks of AVX2 machines teach nothing about AVX-512: the error names the kind."""
    with pytest.raises(UsageError, match="AVX512 of no machine"):
        training.train(shard, tmp_path, Cpu.AVX512)
