"""An enclave that opens later: when the process, or a forked child, calls softepc_start."""

from __future__ import annotations

import json

import pytest

MIN_BUDGET_BYTES = 64 * 4096

# What the programs below share: the library's counters by name, allocations, and a child that reports what it saw.
PRELUDE = """
import ctypes, errno, json, os, sys
library = ctypes.CDLL(None, use_errno=True)
library.softepc_region_base.restype = ctypes.c_void_p
library.softepc_set_budget.argtypes = [ctypes.c_uint64]
NAMES = ("faults", "zero_fills", "loads", "minor_faults", "evictions", "sealed_bytes", "handler_ns", "resident_bytes",
         "peak_resident_bytes", "live_bytes", "budget_bytes", "syscalls_pinned", "syscalls_bounced")
def counters():
    values = (ctypes.c_uint64 * 13)()
    library.softepc_counters(values)
    return dict(zip(NAMES, values))
def start():
    result = library.softepc_start()
    return [result, errno.errorcode.get(ctypes.get_errno(), "") if result else ""]
def is_inside(memory):
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return bool(library.softepc_in_region(ctypes.c_void_p(address)))
def begin(work):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, json.dumps(work()).encode())
        os._exit(0)
    os.close(writer)
    return reader, pid
def end(reader, pid):
    with os.fdopen(reader) as told:
        text = told.read()
    _, status = os.waitpid(pid, 0)
    return json.loads(text) if text else os.waitstatus_to_exitcode(status)
def in_child(work):
    return end(*begin(work))
def paged():
    big = bytearray(b"x" * (4 << 20))
    return [big.count(b"x"), is_inside(big), counters()]
"""


def run(enclave, code: str, **settings: object):
    """The JSON that a deferred process printed."""
    result = enclave.python(PRELUDE + code, defer=1, **settings)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_there_is_no_enclave_until_it_is_started(enclave):
    """A deferred process allocates from libc and counts nothing, whatever its budget; once started, it pages."""
    before, region, started, after = run(
        enclave,
        "before = paged(); region = library.softepc_region_base(); started = start()\n"
        "print(json.dumps([before, region, started, paged()]))",
        budget_bytes=MIN_BUDGET_BYTES,
    )
    assert before[:2] == [4 << 20, False]
    assert region is None
    assert not any(value for name, value in before[2].items() if name != "budget_bytes")
    assert started == [0, ""]
    assert after[:2] == [4 << 20, True]
    assert after[2]["evictions"] > 512
    assert after[2]["peak_resident_bytes"] == MIN_BUDGET_BYTES


def test_what_was_allocated_before_stays_outside(enclave):
    """Memory allocated before the enclave opens stays where it is, can be resized and freed, and is not counted."""
    inside, content, counted = run(
        enclave,
        "old = bytearray(b'y' * (4 << 20)); start()\n"
        "was = is_inside(old); content = old.count(b'y'); live = counters()['live_bytes']\n"
        "del old\n"
        "print(json.dumps([was, content, live]))",
    )
    assert (inside, content) == (False, 4 << 20)
    assert counted < 1 << 20


def test_a_second_start_is_refused(enclave):
    """A second start fails with EALREADY and does not disturb the enclave."""
    first, second, content = run(
        enclave,
        "first = start(); big = bytearray(b'z' * (4 << 20)); second = start()\n"
        "print(json.dumps([first, second, big.count(b'z')]))",
        budget_bytes=MIN_BUDGET_BYTES,
    )
    assert (first, second, content) == ([0, ""], [-1, "EALREADY"], 4 << 20)


def test_an_enclave_that_was_not_deferred_cannot_be_started(enclave):
    """Without SOFTEPC_DEFER, or with 0, the enclave is open from the beginning."""
    for settings in ({}, {"defer": 0}):
        result = enclave.python(
            PRELUDE + "big = bytearray(1 << 20); print(json.dumps([is_inside(big), start()]))", **settings
        )
        assert json.loads(result.stdout) == [True, [-1, "EALREADY"]], result.stderr


def test_a_forked_child_opens_an_enclave_of_its_own(enclave):
    """A forked child can open an enclave; its parent has none before or after, and can open one later."""
    child, parent, late = run(
        enclave,
        "def work():\n"
        "    library.softepc_set_budget(1 << 20)\n"
        "    return [start(), start(), paged()]\n"
        "child = in_child(work); parent = paged()\n"
        "late = [start(), paged()]\n"
        "print(json.dumps([child, parent, late]))",
        budget_bytes=MIN_BUDGET_BYTES,
    )
    assert child[:2] == [[0, ""], [-1, "EALREADY"]]
    for seen, budget_bytes in ((child[2], 1 << 20), (late[1], MIN_BUDGET_BYTES)):
        assert seen[:2] == [4 << 20, True]
        assert seen[2]["loads"] > 0
        assert seen[2]["evictions"] > 512
        assert seen[2]["peak_resident_bytes"] == seen[2]["budget_bytes"] == budget_bytes
    assert parent[:2] == [4 << 20, False]
    assert parent[2]["faults"] == parent[2]["live_bytes"] == 0
    assert late[0] == [0, ""]


def test_children_of_one_parent_are_apart(enclave):
    """Two children with enclaves at the same addresses each see only their own content and counts."""
    first, second = run(
        enclave,
        "filled, go = os.pipe(), os.pipe()\n"
        "def first():\n"
        "    start(); big = bytearray(b'a' * (4 << 20)); os.write(filled[1], b'.'); os.read(go[0], 1)\n"
        "    return [big.count(b'a'), ctypes.addressof(ctypes.c_char.from_buffer(big)), counters()]\n"
        "def second():\n"
        "    start(); big = bytearray(b'b' * (4 << 20))\n"
        "    return [big.count(b'b'), ctypes.addressof(ctypes.c_char.from_buffer(big)), counters()]\n"
        "running = begin(first); os.read(filled[0], 1)\n"
        "done = in_child(second); os.write(go[1], b'.')\n"
        "print(json.dumps([end(*running), done]))",
        budget_bytes=MIN_BUDGET_BYTES,
    )
    assert first[0] == second[0] == 4 << 20
    assert first[1] == second[1]
    assert 4 << 20 <= first[2]["live_bytes"] < 5 << 20
    assert 4 << 20 <= second[2]["live_bytes"] < 5 << 20
    assert first[2]["peak_resident_bytes"] == second[2]["peak_resident_bytes"] == MIN_BUDGET_BYTES


def test_a_child_of_an_open_enclave_cannot_open_another(enclave):
    """A child of a process with an open enclave can neither start one nor reach its parent's memory."""
    result = run(
        enclave,
        "start(); big = bytearray(b'x' * (1 << 20))\n"
        "print(json.dumps([in_child(start), in_child(lambda: big[5]), big.count(b'x')]))",
    )
    assert result == [[-1, "EALREADY"], 89, 1 << 20]


def test_the_environment_is_cleaned_before_it_opens(enclave):
    """A program that a deferred process starts is not in an enclave and cannot open one."""
    assert run(
        enclave,
        "import subprocess\n"
        "names = subprocess.run('env | grep -c -e SOFTEPC -e LD_PRELOAD', shell=True, capture_output=True, text=True)\n"
        "print(json.dumps([names.stdout.strip(), hasattr(library, 'softepc_start')]))",
    ) == ["0", True]


def test_only_who_opened_an_enclave_leaves_a_report(enclave, tmp_path):
    """A deferred process that never opened its enclave writes no report."""
    report = tmp_path / "report.json"
    enclave.python(PRELUDE, defer=1, report=report)
    assert report.read_text() == ""
    enclave.python(PRELUDE + "start(); paged()", defer=1, report=report, budget_bytes=MIN_BUDGET_BYTES)
    assert enclave.counters(report)["evictions"] > 512


@pytest.mark.parametrize("value", ["2", "-1", "yes", "1 ", "0x1"])
def test_another_value_than_0_or_1_is_refused(enclave, value):
    """A bad setting ends the process with code 87 before it starts, and the message names it."""
    result = enclave.run("/bin/true", defer=value)
    assert result.returncode == 87
    assert result.stderr.startswith("softepc: SOFTEPC_DEFER is")
    assert "from 0 to 1" in result.stderr
