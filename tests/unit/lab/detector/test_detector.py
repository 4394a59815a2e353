"""Reading the shipped detector, and asking it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from sectum.errors import ArtefactInvalid
from sectum.lab.detector import ARTEFACTS, Detector
from sectum.lab.detector.features import extract
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize


@pytest.fixture(scope="module", params=ARTEFACTS)
def detector(request):
    return Detector.load(ARTEFACTS[request.param])


@pytest.fixture
def copy(tmp_path):
    """The shipped artefact, to be damaged."""
    folder = tmp_path / "detector"
    shutil.copytree(ARTEFACTS[Cpu.AVX2], folder)
    return folder


def working_sets(detector, networks):
    return detector.working_sets([extract(optimize(network, detector.cpu)) for network in networks])


def edit(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_larger_epc_pages_less_likely(detector, networks):
    """The probability falls strictly with the EPC around the working set, from about 1 to about 0."""
    for graph in networks:
        found = working_sets(detector, [graph])
        said = found.over_commitment(found.n_bytes() * (0.4, 0.8, 0.95, 1.0, 1.05, 1.25, 2.5))
        assert (np.diff(said) < 0).all()
        assert said[0] > 0.95
        assert said[-1] < 0.05


def test_many_at_once_are_as_one_by_one(detector, networks):
    """A network's answer does not depend on what else is asked about, nor on how many runs that takes."""
    many = [networks[number % len(networks)] for number in range(80)]
    together = working_sets(detector, many)
    alone = [working_sets(detector, [graph]) for graph in many]
    assert np.allclose(together.log_bytes, [one.log_bytes[0] for one in alone], atol=1e-4)
    assert np.allclose(together.scale, [one.scale[0] for one in alone], rtol=1e-3)


def test_the_interval_holds_the_median(detector, networks):
    """The 5 %, 50 % and 95 % quantiles of the working set are in order, and the probability is 0.5 at the median."""
    found = working_sets(detector, networks)
    low, middle, high = (found.n_bytes(share) for share in (0.05, 0.5, 0.95))
    assert (low <= middle).all()
    assert (middle <= high).all()
    assert found.over_commitment(middle) == pytest.approx(0.5, abs=0.2)


def test_working_sets_are_near_the_first_estimate(detector, networks):
    """They are within a quarter of weights and peak activations, on networks of ordinary families."""
    first = [extract(optimize(graph, detector.cpu)).first_estimate_bytes[0] for graph in networks]
    assert np.allclose(working_sets(detector, networks).n_bytes(), first, rtol=0.25)


def test_nothing_asked_is_nothing_answered(detector):
    """No graph, no answer, no error."""
    assert len(detector.working_sets([]).n_bytes()) == 0


def test_this_machines_kind_is_the_default():
    """Without a folder the detector is that of the processor that asks."""
    assert Detector.load().cpu is (Cpu.AVX512 if Cpu.here().without_amx is Cpu.AVX512 else Cpu.AVX2)


def test_a_detector_of_other_features_is_refused(copy):
    """An artefact trained with another feature schema is refused when it is loaded."""
    edit(copy, schema_sha256="0" * 64)
    with pytest.raises(ArtefactInvalid, match="other features"):
        Detector.load(copy)


def test_a_flipped_bit_in_a_network_is_refused(copy, networks):
    """A network whose SHA-256 is not the manifest's is not used."""
    path = copy / "gnn.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtefactInvalid, match="SHA-256"):
        working_sets(Detector.load(copy), networks[:1])


def test_a_missing_network_is_named(copy, networks):
    """Without its file the error has its path."""
    (copy / "gnn.onnx").unlink()
    with pytest.raises(ArtefactInvalid, match=r"gnn\.onnx"):
        working_sets(Detector.load(copy), networks[:1])


@pytest.mark.parametrize("missing", ["detector", "machine", "nchwc_block"])
def test_a_manifest_without_a_part_is_refused(copy, missing):
    """Each part is needed, and the error names it."""
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest[missing]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtefactInvalid, match=missing):
        Detector.load(copy)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_damaged_manifest_is_refused(copy, content):
    """Bytes that are no manifest give an error with the file's name."""
    (copy / "manifest.json").write_bytes(content)
    with pytest.raises(ArtefactInvalid, match=r"manifest\.json"):
        Detector.load(copy)


@pytest.mark.slow
def test_detecting_imports_nothing_that_trains():
    """Loading and asking needs neither PyTorch nor what reads datasets."""
    code = (
        "import sys, random\n"
        "from sectum import zoo\n"
        "from sectum.lab.detector import Detector\n"
        "from sectum.lab.detector.features import extract\n"
        "from sectum.ort.optimize import optimize\n"
        "detector = Detector.load()\n"
        "graph = zoo.to_graph(zoo.sample('squeezenet', random.Random(0)), 1)\n"
        "detector.working_sets([extract(optimize(graph, detector.cpu))])\n"
        "heavy = {'torch', 'pyarrow', 'lightgbm', 'scipy', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
