"""Storing which operators were measured."""

from __future__ import annotations

import hashlib
import json

import pytest

from sectum.errors import UsageError
from sectum.lab.training import support as training
from sectum.lab.training.support import features_of, main
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.predict.features import extract
from sectum.predict.support import FILE, Support


def test_the_program_writes_the_file_and_enters_it_in_the_manifest(tmp_path, monkeypatch, squeezenet):
    """The manifest keeps what it said, names the new file with its SHA-256, and the file holds what was measured."""
    features = extract(optimize(squeezenet, Cpu.AVX2), threads=1)
    monkeypatch.setattr(training, "features_of", lambda *_: [features])
    (tmp_path / "manifest.json").write_text('{"machine": "a"}')
    assert main(["--data", "x", "--out", str(tmp_path), "--name", "m"]) == 0
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    content = (tmp_path / FILE).read_bytes()
    assert manifest == {"machine": "a", "support": {"file": FILE, "sha256": hashlib.sha256(content).hexdigest()}}
    places = Support(tmp_path, (FILE, manifest["support"]["sha256"])).places(features)
    assert {place.support for place in places} == {"inside"}


def test_a_machine_that_measured_nothing_is_refused(tmp_path, monkeypatch):
    """Support of nothing would put all operators outside: the error names the machine."""
    monkeypatch.setattr(training, "read", lambda _: [])
    with pytest.raises(UsageError, match="no network of the machine 'nobody'"):
        features_of(tmp_path, [], "nobody")
