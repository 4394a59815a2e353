"""A worker reaches the device nodes of its own GPUs only, a spare none. Nodes and driver are imitated."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from hetee_installation import Installation, RunningService
from hetee_rack import until
from sectum.hetee.client import connect, read_policy_file
from sectum.hetee.confinement.required import CONFINEMENT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make device nodes"),
]

NODES = ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm")
# Runs a command in a mount namespace of its own, whose /dev has nodes of three GPUs. They are those of /dev/null.
IN_FAKE_DEV = f"""#!/bin/sh
exec unshare --mount --propagation private sh -c '
  set -e
  mount -t tmpfs none /dev
  mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/urandom c 1 9
  for node in {" ".join(NODES)}; do mknod -m 666 /dev/$node c 1 3; done
  exec "$0" "$@"' {{python}} "$@"
"""
# In place of CUDA: a GPU computes on the CPU. The driver opens each node that it finds when it is loaded, and a worker
# that was taken over tries the nodes again when it computes.
DRIVER = f"""

import os as _os
import sys as _sys

from sectum.hetee.role_log import log_event as _tell

_make, _run = OnnxRuntimeAccelerator.__init__, _Loaded.run


def _opened():
    found = []
    for _node in {NODES!r}:
        try:
            found.append((_node, _os.open("/dev/" + _node, _os.O_RDWR))[0])
        except OSError:
            pass
    return found


def _imitate(self, name, *, threads=1, device=0):
    _make(self, "cpu:0", threads=threads)
    self.name, self.kind = name, name.partition(":")[0]
    if not _seen and "--rehearse" not in _sys.argv:  # that is no worker: it only compiles, and serves nobody
        _seen.append(name)
        _tell("worker", "driver", pid=_os.getpid(), accelerator=name, device=device, nodes=_opened())


def _try_again(self, *words):
    _tell("worker", "hostile", pid=_os.getpid(), accelerator=_seen[:1], nodes=_opened())
    return _run(self, *words)


_seen = []
OnnxRuntimeAccelerator.__init__, _Loaded.run = _imitate, _try_again
"""


@pytest.fixture
def service(tmp_path: Path) -> RunningService:
    """A rack with two of the machine's three GPUs, and one CPU accelerator."""
    installation = Installation(tmp_path / "installation")
    driver = installation.site / "sectum/hetee/worker/accelerators/onnx_runtime.py"
    driver.write_text(driver.read_text() + DRIVER)
    installation.command = tmp_path / "with-gpus"
    installation.command.write_text(IN_FAKE_DEV.format(python=installation.python))
    installation.command.chmod(0o755)
    options = ["--accelerators", "cuda=2,cpu=1", "--allow-unconfined"]
    return RunningService(installation, tmp_path / "state", options=options)


def test_a_worker_reaches_its_own_gpu_only(service: RunningService, doubler: bytes) -> None:
    """Each worker's driver finds the nodes of the GPU that it owns; spares and CPU workers find none, at any time."""
    with service:
        policy = read_policy_file(service.state / "policy.json")
        steps = {role: tuple(policy.confinement.get(role, CONFINEMENT[role])) for role in CONFINEMENT}
        lacking = {"private-root", "no-new-descriptors"}
        changed: dict[str, Any] = {role: tuple(step for step in steps[role] if step not in lacking) for role in steps}
        policy = msgspec.structs.replace(policy, confinement=changed)
        numbers = np.arange(4, dtype=np.float32)
        sessions = [connect(service.url, policy, accelerator=kind, wait_s=60) for kind in ("cuda", "cuda", "cpu")]
        for session in sessions:
            session.load(doubler)
            np.testing.assert_array_equal(session.infer(numbers).outputs["y"], numbers * 2)
            assert session.trust.worker is not None
            assert "own-devices" in session.trust.worker.confinement
        assert "no-new-descriptors" in sessions[2].trust.worker.confinement  # type: ignore[union-attr]
        vouched = until(lambda: [e["pid"] for e in service.log() if e["event"] == "vouched"], what="three workers")
        for session in sessions:
            session.close()
        shared = ["nvidiactl", "nvidia-uvm"]
        found = {e["pid"]: e for e in service.log() if e["event"] == "driver"}
        assert [found[pid]["accelerator"] for pid in vouched] == ["cuda:0", "cuda:1", "cpu:0"]
        assert [found[pid]["nodes"] for pid in vouched] == [["nvidia0", *shared], ["nvidia1", *shared], []]
        assert [found[pid]["device"] for pid in vouched] == [0, 0, 0]
        assert all(not e["nodes"] for pid, e in found.items() if pid not in vouched), "a spare touched a device"
        tried = {e["pid"]: e["nodes"] for e in service.log() if e["event"] == "hostile" and e["pid"] in vouched}
        assert {pid: tried[pid] for pid in vouched} == {pid: [] for pid in vouched}
