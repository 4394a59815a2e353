"""The enclave's process: configuration, children, signal handlers, threads, exit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from places import ROOT

MIN_BUDGET_BYTES = 64 * 4096


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SOFTEPC_BUDGET_BYTES", "32MiB", "expected a plain number of bytes"),
        ("SOFTEPC_BUDGET_BYTES", "-1", "expected a plain number of bytes"),
        ("SOFTEPC_BUDGET_BYTES", "99999999999999999999", "expected a plain number of bytes"),
        ("SOFTEPC_BUDGET_BYTES", str(MIN_BUDGET_BYTES - 1), "at least 262144 (64 pages)"),
        ("SOFTEPC_POLICY", "lru", "expected second-chance or fifo"),
        ("SOFTEPC_MIN_BYTES", "1", "expected a plain number of bytes from 4096"),
        ("SOFTEPC_REGION_BYTES", "0", "expected a plain number of bytes from 1048576"),
        ("SOFTEPC_REPORT", "/nowhere/report.json", "cannot be written"),
    ],
)
def test_a_bad_setting_is_refused(enclave, name, value, said):
    """A bad setting ends the process with code 87 before it starts, and the message names it."""
    result = enclave.run("/bin/true", **{name.removeprefix("SOFTEPC_").lower(): value})
    assert result.returncode == 87
    assert result.stderr.startswith(f"softepc: {name} is")
    assert said in result.stderr


def test_a_missing_resource_is_said(enclave):
    """If the machine lacks address space, the process ends with code 88 and says what to change."""
    command = f"ulimit -v 1048576; exec env LD_PRELOAD={enclave.library} true"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert result.returncode == 88
    assert "lower SOFTEPC_REGION_BYTES" in result.stderr


def test_an_enclave_in_an_enclave_is_refused(enclave):
    """A process that inherited the filter of an enclave cannot start another, and says so with code 88."""
    code = "import os, sys; os.execve('/bin/true', ['true'], {'LD_PRELOAD': sys.argv[1]})"
    result = enclave.python(code, str(enclave.library))
    assert result.returncode == 88
    assert "started from inside an enclave" in result.stderr


def test_a_full_region_is_out_of_memory(enclave):
    """When the region is full, allocations fail like malloc, and the process goes on."""
    code = (
        "import sys\n"
        "try:\n"
        "    bytearray(64 << 20)\n"
        "except MemoryError:\n"
        "    print('no memory', len(bytearray(1 << 20)))\n"
    )
    result = enclave.python(code, region_bytes=16 << 20)
    assert result.stdout == "no memory 1048576\n", result.stderr


def test_children_are_ordinary_processes(enclave):
    """A program started from the enclave works and is not in an enclave."""
    code = (
        "import os, subprocess\n"
        "big = bytearray(b'x' * (8 << 20))\n"
        "print(subprocess.run(['echo', 'hello'], capture_output=True, text=True).stdout.strip())\n"
        "print(subprocess.run(['cat'], input=bytes(big), capture_output=True).stdout == big)\n"
        "print(subprocess.run('env | grep -c -e SOFTEPC -e LD_PRELOAD', shell=True,"
        " capture_output=True, text=True).stdout.strip())\n"
        "print(os.system('exit 3') >> 8)\n"
    )
    result = enclave.python(code, budget_bytes=MIN_BUDGET_BYTES)
    assert result.stdout.split() == ["hello", "True", "0", "3"], result.stderr


@pytest.mark.parametrize("use", ["touch", "call", "resize"])
def test_a_forked_child_that_uses_the_enclave_fails_loudly(enclave, use):
    """A forked child that touches the enclave ends with code 89, reads nothing, and does not disturb its parent."""
    result = enclave.run(enclave.program("children"), use, budget_bytes=MIN_BUDGET_BYTES)
    assert (result.returncode, result.stdout) == (0, "89\n"), result.stderr
    assert "a child of fork() touched" in result.stderr


def test_a_forked_child_can_leave_the_enclave_behind(enclave, tmp_path):
    """A forked child can free enclave memory, allocate and exit, and writes no report."""
    report = tmp_path / "report.json"
    result = enclave.run(enclave.program("children"), "leave", budget_bytes=MIN_BUDGET_BYTES, report=report)
    assert (result.returncode, result.stdout) == (0, "4\n"), result.stderr
    assert len(report.read_text().splitlines()) == 1


def test_faulthandler_lives_beside_the_pager(enclave):
    """A program's own SIGBUS handler does not break paging, and gets the signals that the pager did not cause."""
    code = (
        "import faulthandler, os, signal\n"
        "faulthandler.enable()\n"
        "big = bytearray(b'x' * (4 << 20))\n"
        "print(sum(big[::4096]), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGBUS)\n"
    )
    result = enclave.python(code, budget_bytes=MIN_BUDGET_BYTES)
    assert result.stdout.split() == [str(1024 * ord("x"))]
    assert "Fatal Python error: Bus error" in result.stderr
    assert result.returncode == -7


def test_a_python_handler_for_sigbus_is_called(enclave):
    """signal.signal works for SIGBUS and SIGSYS, although the pager's handlers run first."""
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGBUS, lambda number, frame: print('bus'))\n"
        "signal.signal(signal.SIGSYS, lambda number, frame: print('sys'))\n"
        "big = bytearray(b'x' * (4 << 20))\n"
        "os.kill(os.getpid(), signal.SIGBUS)\n"
        "os.kill(os.getpid(), signal.SIGSYS)\n"
        "print(big.count(b'x'), signal.getsignal(signal.SIGBUS) is not signal.SIG_DFL)\n"
    )
    result = enclave.python(code, budget_bytes=MIN_BUDGET_BYTES)
    assert result.stdout.split() == ["bus", "sys", str(4 << 20), "True"], result.stderr


def test_a_real_sigbus_still_kills(enclave):
    """SIGBUS outside the region works as usual, for a file that was truncated under its mapping."""
    code = (
        "import mmap, os, tempfile\n"
        "file = tempfile.TemporaryFile(); file.truncate(8192)\n"
        "view = mmap.mmap(file.fileno(), 8192); os.ftruncate(file.fileno(), 0)\n"
        "print(view[5000])\n"
    )
    assert enclave.python(code, budget_bytes=MIN_BUDGET_BYTES).returncode == -7


def test_blocking_all_signals_does_not_stop_the_paging(enclave):
    """A thread that blocks every signal is still served, because SIGBUS and SIGSYS are never blocked."""
    code = (
        "import os, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "big = bytearray(b'x' * (4 << 20))\n"
        "print(big.count(b'x'), os.write(os.open('/dev/null', os.O_WRONLY), big))\n"
    )
    result = enclave.python(code, budget_bytes=MIN_BUDGET_BYTES)
    assert result.stdout.split() == [str(4 << 20)] * 2, result.stderr


def test_memory_can_be_used_until_the_last_exit_handler(enclave):
    """Exit handlers, OpenSSL's included, do not stop the pager while enclave memory is in use."""
    code = (
        "import atexit, hashlib, ssl, threading, time\n"
        "big = bytearray(b'x' * (4 << 20))\n"
        "def use():\n"
        "    while True: big.count(b'x')\n"
        "threading.Thread(target=use, daemon=True).start()\n"
        "atexit.register(lambda: print(hashlib.sha256(big).hexdigest()[:8]))\n"
        "time.sleep(0.2)\n"
    )
    result = enclave.python(code, budget_bytes=MIN_BUDGET_BYTES)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.strip()) == 8


def test_the_report_is_one_line_of_json(enclave, tmp_path):
    """The report at exit is JSON, and its counters are consistent with each other."""
    report = tmp_path / "report.json"
    code = "big = bytearray(b'x' * (4 << 20)); print(big.count(b'x'))"
    enclave.python(code, budget_bytes=MIN_BUDGET_BYTES, report=report, policy="fifo")
    text = report.read_text()
    assert text.count("\n") == 1
    counters = json.loads(text)
    assert counters["faults"] == counters["zero_fills"] + counters["loads"] + counters["minor_faults"] > 1024
    assert counters["peak_resident_bytes"] == counters["budget_bytes"] == MIN_BUDGET_BYTES
    assert counters["policy"] == "fifo"


def test_it_can_be_called_by_ctypes(enclave):
    """Python code in the process can read the counters and set the budget with ctypes."""
    code = (
        "import ctypes\n"
        "library = ctypes.CDLL(None)\n"
        "counters = (ctypes.c_uint64 * 13)()\n"
        "big = bytearray(b'x' * (4 << 20))\n"
        "library.softepc_counters(counters); print(counters[0] >= 1024, counters[10])\n"
        "print(library.softepc_set_budget(ctypes.c_uint64(1 << 20)))\n"
        "library.softepc_counters(counters); print(counters[7] <= 1 << 20, counters[10])\n"
        "print(library.softepc_set_budget(ctypes.c_uint64(4096)), library.softepc_set_policy(b'lru'))\n"
        "print(library.softepc_set_policy(b'fifo'), big.count(b'x'))\n"
    )
    result = enclave.python(code)
    expected = ["True", "0", "0", "True", str(1 << 20), "-1", "-1", "0", str(4 << 20)]
    assert result.stdout.split() == expected, result.stderr


def test_the_benchmark_runs(tmp_path):
    """The benchmark measures the cost of a fault, with its context, in one command."""
    if not shutil.which("cc") or not shutil.which("make"):
        pytest.skip("no C compiler (cc) or no make: the benchmark cannot be built")
    script = ROOT / "benchmarks" / "pager_fault.py"
    output = tmp_path / "result.json"
    command = [sys.executable, str(script), "--repetitions", "2", "--limit", "1000", "--json", str(output)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "softepc: " in result.stderr:
        pytest.skip(f"this machine cannot run the software EPC: {result.stderr.strip()}")
    assert result.returncode == 0, result.stderr
    measured = json.loads(output.read_text())
    assert measured["ratio"] > 0.5
    assert len(measured["samples_ns"]["fault_ns"]) == 2
    assert measured["context"]["kernel"]
