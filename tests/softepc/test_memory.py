"""What a program in the enclave can rely on: its memory, its system calls, the budget, the sealing."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

PAGE_BYTES = 4096
MIN_BUDGET_BYTES = 64 * PAGE_BYTES
POLICIES = ["second-chance", "fifo"]
STRESS_SECONDS = os.environ.get("SOFTEPC_STRESS_SECONDS", "2")


@pytest.mark.parametrize("policy", POLICIES)
def test_no_write_is_lost_with_many_threads(enclave, policy):
    """With eight threads on the same pages and the smallest budget, every byte is what was last written."""
    result = enclave.run(
        enclave.program("stress"),
        STRESS_SECONDS,
        budget_bytes=MIN_BUDGET_BYTES,
        policy=policy,
        timeout_s=60 + float(STRESS_SECONDS),
    )
    assert result.returncode == 0, result.stderr


def test_an_untouched_copy_opens(enclave):
    """Only reading untrusted memory changes nothing, so the attacks below fail because of their writes."""
    result = enclave.run(enclave.program("attack"), "none", budget_bytes=MIN_BUDGET_BYTES)
    assert (result.returncode, result.stdout) == (0, "read 0\n"), result.stderr


@pytest.mark.parametrize("attack", ["flip", "replay", "swap"])
def test_an_attack_on_sealed_pages_ends_the_enclave(enclave, attack):
    """A changed, replayed or exchanged sealed page is never used: the process ends with code 86 and says why."""
    result = enclave.run(enclave.program("attack"), attack, budget_bytes=MIN_BUDGET_BYTES)
    assert result.returncode == 86
    assert result.stdout == ""
    assert "page 0 of the enclave failed its authentication" in result.stderr


@pytest.mark.parametrize("policy", POLICIES)
def test_resident_memory_never_exceeds_the_budget(enclave, policy):
    """An observer outside that polls the size of the memfd never sees more than the budget."""
    process = subprocess.Popen(
        [enclave.program("stress"), "2"],
        env=enclave.environment(MIN_BUDGET_BYTES, policy=policy),
        stdout=subprocess.DEVNULL,
    )
    memory, most, samples = None, 0, 0
    while process.poll() is None:
        try:
            if memory is None:
                descriptors = Path(f"/proc/{process.pid}/fd")
                found = [fd for fd in descriptors.iterdir() if "memfd:softepc" in str(fd.readlink())]
                memory = found[0] if found else None
                time.sleep(0.001)
                continue
            for _ in range(1000):
                most = max(most, memory.stat().st_blocks * 512)
                samples += 1
        except FileNotFoundError:  # the process is starting, or ending
            continue
    assert process.returncode == 0
    assert samples > 10_000
    assert MIN_BUDGET_BYTES // 2 < most <= MIN_BUDGET_BYTES


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("budget_bytes", [MIN_BUDGET_BYTES, 1 << 20])
def test_system_calls_work_on_evicted_buffers(enclave, policy, budget_bytes):
    """System calls on enclave buffers of any size behave as they do outside the enclave."""
    result = enclave.run(enclave.program("calls"), budget_bytes=budget_bytes, policy=policy)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("budget_bytes", [0, MIN_BUDGET_BYTES, 4 << 20])
@pytest.mark.parametrize("seed", range(3))
def test_the_malloc_family_keeps_its_promises(enclave, seed, budget_bytes):
    """Alignment, the content after realloc, the zeros of calloc, and errno are as the manual says."""
    result = enclave.run(enclave.program("families"), str(seed), budget_bytes=budget_bytes, timeout_s=60)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("misuse", ["after-free", "overrun", "double-free"])
def test_misuse_of_memory_is_said(enclave, misuse):
    """A program with a memory error ends with a message and never reads another allocation's page."""
    result = enclave.run(enclave.program("misuse"), misuse, budget_bytes=MIN_BUDGET_BYTES)
    assert result.returncode < 0
    assert "in no live allocation" in result.stderr or "no live allocation of the enclave starts" in result.stderr


def test_the_handler_allocates_nothing(enclave):
    """Sealing and opening a page never calls malloc, so a fault inside malloc cannot deadlock."""
    result = enclave.run(enclave.program("allocations"), budget_bytes=MIN_BUDGET_BYTES)
    assert (result.returncode, result.stdout) == (0, "0 allocations\n"), result.stderr


def test_an_ordinary_user_can_use_it(enclave):
    """A user without capabilities gets the same enclave."""
    if os.geteuid() != 0:
        pytest.skip("every other test has run as an ordinary user already")
    folder = enclave.folder
    while folder != folder.parent and "pytest" in str(folder):
        folder.chmod(0o755)
        folder = folder.parent
    drop = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", "-all"]
    settings = [f"LD_PRELOAD={enclave.library}", f"SOFTEPC_BUDGET_BYTES={MIN_BUDGET_BYTES}"]
    try:
        result = subprocess.run(
            [*drop, "env", *settings, enclave.program("stress"), "1"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("no setpriv on this machine")
    if result.returncode == 88:
        pytest.skip(f"this kernel does not let an ordinary user page: {result.stderr.strip()}")
    assert result.returncode == 0, result.stderr
