"""R1: a worker that says that it gave its accelerator back, and goes on computing."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from hetee_installation import Installation, RunningService
from hetee_rack import until
from sectum.hetee.client import connect, read_policy_file

pytestmark = pytest.mark.slow

# It answers REVOKE at once, and then computes with four threads for ever.
LIE = """

def _lie(self, names):
    self._send(Kind.RETURNED, messages.Accelerators(accelerators=names))
    for _ in range(4):
        threading.Thread(target=_compute, daemon=True).start()


def _compute():
    import hashlib

    data = bytes(1 << 20)
    while True:
        hashlib.sha256(data).digest()


WorkerMain._revoke = _lie
"""
ENOUGH = np.arange(10, dtype=np.float32)


def processor_s(pid: int) -> float:
    """Processor time that a process has used."""
    return time.clock_gettime(~pid << 3 | 2)


def test_a_worker_that_lies_about_its_accelerator_gains_nothing(tmp_path: Path, doubler: bytes) -> None:
    """The next tenant gets the accelerator when the kernel has stopped the liar, which then gets a fifth of a core."""
    installation = Installation(tmp_path / "installation")
    process = installation.site / "sectum/hetee/worker/process.py"
    process.write_text(process.read_text() + LIE)
    with RunningService(installation, tmp_path / "state", options=["--spares", "2"]) as service:
        policy = read_policy_file(service.state / "policy.json")
        first = connect(service.url, policy, wait_s=60)
        first.load(doubler)
        first.infer(ENOUGH)
        with connect(service.url, policy, wait_s=60) as second:
            second.load(doubler)
            liar, honest = (event["pid"] for event in service.log() if event["event"] == "vouched")
            steps = [event["event"] for event in service.log() if event["event"] in ("vouched", "accelerators_reset")]
            assert steps == ["vouched", "accelerators_reset", "vouched"]
            begun_s, used_s = time.monotonic(), processor_s(liar)
            until(
                lambda: "T (stopped)" in Path(f"/proc/{liar}/status").read_text(), what="the kernel stopping the liar"
            )
            while time.monotonic() < begun_s + 5:
                np.testing.assert_array_equal(second.infer(ENOUGH).outputs["y"], ENOUGH * 2)
            # Four threads took several processors. The bound is far above a fifth, for a controller that is late.
            assert processor_s(liar) - used_s < 0.6 * (time.monotonic() - begun_s)
            assert liar != honest
        first.close()
        assert "the kernel had stopped the process" in first.cleanings[0].accelerators["cpu:0"]
