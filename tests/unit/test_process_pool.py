"""Workers of a pool never outlive the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
import os, sys, time
from concurrent.futures import wait
from sectum.process_pool import process_pool

def work(n_bytes):
    print(os.getpid(), flush=True)
    time.sleep(0.2)
    return bytes(n_bytes)

if __name__ == "__main__":
    with process_pool(2, None, ()) as pool:
        futures = [pool.submit(work, int(sys.argv[1])) for _ in range(200)]
        wait(futures)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("n_bytes", [0, 1 << 20], ids=["small results", "results larger than a pipe"])
def test_workers_end_when_their_owner_is_killed(tmp_path: Path, how: signal.Signals, n_bytes: int) -> None:
    """After the owner was killed, its workers end by themselves, also those that were writing a result."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with subprocess.Popen([sys.executable, str(program), str(n_bytes)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        workers: set[int] = set()
        while len(workers) < 2:
            workers.add(int(owner.stdout.readline()))
        owner.send_signal(how)
        owner.wait(30)
        end_s = time.monotonic() + 30
        while (left := {pid for pid in workers if _runs(pid)}) and time.monotonic() < end_s:
            time.sleep(0.05)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert not left


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
