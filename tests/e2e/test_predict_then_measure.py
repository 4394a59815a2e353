"""The whole way, as a user goes it: a file, a prediction, a measurement, side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.errors import EnclaveUnavailable
from sectum.measure.sampling import PAGES_TOLERANCE
from sectum.units import MIB


@pytest.fixture(scope="module", autouse=True)
def enclave():
    try:
        SoftEpcRunner().check()
    except EnclaveUnavailable as error:
        pytest.skip(f"no software enclave here: {error}")


@pytest.fixture(scope="module")
def sectum(tmp_path_factory):
    """Run a command line as a process with a home of its own, and read its JSON."""
    home = tmp_path_factory.mktemp("home")

    def run(*words: str) -> dict:
        command = [sys.executable, "-m", "sectum.cli", *words, "--json"]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=os.environ | {"SECTUM_HOME": str(home)},
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def network(sectum, tmp_path_factory) -> str:
    """ShuffleNet as a file, with weights that are all different: a lost page would change the result."""
    path = tmp_path_factory.mktemp("network") / "network.onnx"
    subprocess.run(
        [sys.executable, "-m", "sectum.cli", "zoo", "export", "shufflenet_v2_x1_0", "-o", str(path)], check=True
    )
    return str(path)


@pytest.mark.parametrize(("epc_mib", "batch", "threads"), [(4, 1, 1), (8, 2, 2), (256, 2, 1)])
def test_what_is_predicted_is_what_is_measured(sectum, network, epc_mib, batch, threads):
    """Outputs equal native, memory stays within the budget, page loads are as predicted."""
    where = ("--epc", f"{epc_mib}MiB", "--batch", str(batch), "--threads", str(threads), "--enclave", "softepc")
    predicted = sectum("predict", network, *where)
    measured = sectum("measure", network, *where, "--runs", "3")
    if "measurement" in measured:
        measured = measured["measurement"]
    assert measured["outputs_equal_native"] is True
    assert measured["peak_resident_bytes"] <= epc_mib * MIB
    assert predicted["overcommit"]["predicted"] == measured["over_committed"]
    assert predicted["memory"]["loads"] == pytest.approx(measured["loads"], rel=0.15, abs=PAGES_TOLERANCE)
    assert measured["latency_ms"] > 0
