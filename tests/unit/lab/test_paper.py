"""The paper's method as it is shipped."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict

import pytest

from sectum import zoo
from sectum.enclave import profile as profiles
from sectum.errors import ArtefactInvalid, UsageError
from sectum.lab.detector import ARTEFACTS, Detector
from sectum.lab.detector.features import extract
from sectum.lab.paper import PaperMethod, Regressions
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.predict import OperatorModel, Predictor, shipped_for
from sectum.predict.artefact import read_manifest
from sectum.units import MIB


@pytest.fixture(scope="module")
def graph():
    return zoo.to_graph(zoo.network("alexnet"), 1)


@pytest.fixture(scope="module")
def predictor():
    return Predictor(OperatorModel.load(shipped_for(Cpu.AVX2)))


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The shipped artefact, to be damaged."""
    folder = tmp_path / "avx2"
    shutil.copytree(ARTEFACTS[Cpu.AVX2], folder)
    monkeypatch.setitem(ARTEFACTS, Cpu.AVX2, folder)
    return folder


def test_the_verdict_is_the_detectors(graph, predictor):
    """Stage 1 is the graph network alone: its probability and its working set are the answer's."""
    for epc_bytes in (64 * MIB, 512 * MIB):
        found = PaperMethod(predictor).predict(graph, profiles.load("softepc").with_epc(epc_bytes))
        detector = Detector.load(ARTEFACTS[Cpu.AVX2])
        detected = detector.working_sets([extract(optimize(graph, detector.cpu))])
        assert found.overcommit.probability == pytest.approx(detected.over_commitment([epc_bytes])[0])
        assert found.memory.working_set_bytes == round(detected.n_bytes()[0])
        assert found.memory.margin_bytes == epc_bytes - found.memory.working_set_bytes


def test_each_regime_has_its_regression():
    """The verdict chooses the regression; only the one of over-committed networks counts what does not fit."""
    regressions = Regressions((1.0, 0.5), (2.0, 0.25), (3.0, 0.0, 0.125))
    assert regressions.latency(10.0, None, 8.0) == 10.5
    assert regressions.latency(10.0, 0.49, 8.0) == 20.25
    assert regressions.latency(10.0, 0.5, 8.0) == 31.0


def test_regressions_survive_json():
    """What is stored is read back, and coefficients that no fit gives are refused."""
    regressions = Regressions((1.0, 0.5), (2.0, 0.25), (3.0, 0.0, 0.125))
    stored = json.loads(json.dumps(asdict(regressions)))
    assert Regressions.from_json(stored) == regressions
    for damage in (
        {"pages": [1.0, 2.0]},
        {"fits": [1.0, -2.0]},
        {"native": ["a", 1.0]},
        {"native": [1.0, float("inf")]},
    ):
        with pytest.raises((ValueError, TypeError)):
            Regressions.from_json(stored | damage)


@pytest.mark.parametrize("name", ["sgx1", "nitro", "tdx"])
def test_other_enclaves_are_refused(graph, predictor, name):
    """The method learned from the software enclave; of hardware it says nothing, and says what to use instead."""
    with pytest.raises(UsageError, match="page-model"):
        PaperMethod(predictor).predict(graph, profiles.load(name))


def test_a_given_native_latency_is_refused(graph, predictor):
    """The regressions start from predicted operator latencies."""
    with pytest.raises(UsageError, match="native latency"):
        PaperMethod(predictor).predict(graph, profiles.load("softepc"), native_ms=3.0)


@pytest.mark.parametrize("name", ["gnn.onnx", "regressions.json"])
def test_a_changed_file_is_refused(copied, graph, predictor, name):
    """A file whose SHA-256 is not the manifest's is not used."""
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(ArtefactInvalid, match="SHA-256"):
        PaperMethod(predictor).predict(graph, profiles.load("softepc"))


def test_a_manifest_without_regressions_is_refused(copied, graph, predictor):
    """The error names the folder and how to train again."""
    manifest = json.loads((copied / "manifest.json").read_text())
    del manifest["regressions"]
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtefactInvalid, match=r"sectum\.lab\.training\.paper"):
        PaperMethod(predictor).predict(graph, profiles.load("softepc"))


@pytest.mark.parametrize("block", ARTEFACTS)
def test_the_manifest_says_how_good_it_is(block):
    """Each artefact states what it was trained on, and its measured accuracy on held-out networks."""
    manifest = read_manifest(ARTEFACTS[block] / "manifest.json")
    assert manifest["training"]["kind"] == "measured"
    assert manifest["training"]["held_out_networks"] > 100
    for figures in manifest["accuracy"].values():
        assert 0 < figures["within_10"] <= 1
        assert 0.8 < figures["detector_f1"] <= 1


@pytest.mark.slow
def test_predicting_imports_nothing_that_trains():
    """The method needs neither PyTorch nor scikit-learn, nor what reads datasets."""
    code = (
        "import sys\n"
        "from sectum import zoo\n"
        "from sectum.enclave.profile import load\n"
        "from sectum.lab.paper import PaperMethod\n"
        "from sectum.predict import load_predictor\n"
        "method = PaperMethod(load_predictor(calibration=False))\n"
        "method.predict(zoo.to_graph(zoo.network('squeezenet1_0'), 1), load('softepc'))\n"
        "heavy = {'torch', 'sklearn', 'pyarrow', 'lightgbm', 'scipy', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
