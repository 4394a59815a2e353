"""Storing which operators were measured."""

from __future__ import annotations

import hashlib

from sectum import zoo
from sectum.lab.training.support import write
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.predict.features import extract
from sectum.predict.support import FILE, Support


def test_what_was_measured_is_inside_and_what_was_measured_elsewhere_is_near(tmp_path, squeezenet):
    """The file that is written, named with its SHA-256, tells both apart."""
    here = extract(optimize(squeezenet, Cpu.AVX2), threads=1)
    elsewhere = extract(optimize(zoo.to_graph(zoo.network("bert_tiny")), Cpu.AVX2), threads=1)
    stored = write(tmp_path, [here], [elsewhere])
    assert stored == {"file": FILE, "sha256": hashlib.sha256((tmp_path / FILE).read_bytes()).hexdigest()}
    support = Support(tmp_path, (stored["file"], stored["sha256"]))
    assert {place.support for place in support.places(here)} == {"inside"}
    found = support.places(elsewhere)
    assert "near" in {place.support for place in found} <= {"inside", "near"}
    assert any("another kind of processor" in place.why for place in found)
