"""Where the kernel refuses confinement, nothing is served as if it were there: it fails closed, and says why."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from hetee_installation import Installation, RunningService
from places import SUPPORT
from sectum.hetee.client import connect, read_policy_file
from sectum.hetee.confinement.required import CONFINEMENT
from sectum.hetee.errors import PolicyRefused

pytestmark = pytest.mark.slow

UNSHARE, MOUNT = 272, 165


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """An installation whose interpreter may neither make namespaces nor mount."""
    made = Installation(tmp_path / "installation")
    wrapped = made.python.with_name("wrapped")
    path = os.pathsep.join((str(made.site), *sys.path))
    wrapped.write_text(
        f"#!/bin/sh\nPYTHONPATH={path} exec {sys.executable} {SUPPORT / 'hetee_refusing_kernel.py'} "
        f'{UNSHARE},{MOUNT} {made.python} "$@"\n'
    )
    wrapped.chmod(0o755)
    made.command = wrapped
    return made


def test_a_controller_without_confinement_does_not_start(installation: Installation, tmp_path: Path) -> None:
    """By default the controller ends with an error that names what the kernel refuses."""
    with pytest.raises(AssertionError) as caught, RunningService(installation, tmp_path / "state"):
        pass
    assert "the controller is not confined" in str(caught.value)
    assert "private-root" in str(caught.value)


def test_less_confinement_is_served_to_those_who_accept_it(
    installation: Installation, tmp_path: Path, doubler: bytes
) -> None:
    """If the operator allows it, it is served, to clients whose own policy accepts it; the default one refuses."""
    options = ["--allow-unconfined"]
    with RunningService(installation, tmp_path / "state", options=options) as service:
        policy = read_policy_file(service.state / "policy.json")
        with pytest.raises(PolicyRefused) as caught:
            connect(service.url, policy)
        assert "lacks confinement" in str(caught.value)
        lacking = {"apart-from-host", "private-root", "empty-root", "own-devices", "user-namespace"}
        lacking |= {name for name in CONFINEMENT["worker"] if name.endswith("-namespace")}
        less = {role: tuple(sorted(set(names) - lacking)) for role, names in CONFINEMENT.items()}
        fields = {"formats": policy.formats, "measurements": policy.measurements, "roots": policy.roots}
        with connect(service.url, type(policy)(**fields, confinement=less)) as session:
            session.load(doubler)
            np.testing.assert_array_equal(session.infer(np.ones(3, np.float32)).outputs["y"], [2, 2, 2])
        assert any("not confined" in line or "unconfined" in line for line in service.greeting)
