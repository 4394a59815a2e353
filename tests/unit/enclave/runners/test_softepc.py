"""The software enclave's runner: paging whose counts are known, and errors of the pager."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from sectum.enclave.runners.launch import ended_error
from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.runner import Job
from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.errors import EnclaveFailed, EnclaveTampered, EnclaveUnavailable, UsageError
from sectum.testing.tiny_models import matrix_chain

pytestmark = pytest.mark.slow

LAYERS, SIZE = 8, 512  # 8 MiB of weights, all read in every inference
WEIGHT_PAGES = LAYERS * SIZE * SIZE * 4 // 4096
TIGHT_BYTES = 4 << 20


@pytest.fixture(scope="module")
def runner() -> SoftEpcRunner:
    runner = SoftEpcRunner()
    try:
        runner.check()
    except EnclaveUnavailable as error:
        pytest.skip(str(error))
    return runner


@pytest.fixture(scope="module")
def chain() -> bytes:
    return matrix_chain(LAYERS, SIZE)


@pytest.fixture(scope="module")
def native_digest(chain: bytes) -> Iterator[str]:
    with NativeRunner().start(Job(model=chain)) as session:
        yield session.outputs_digest()


def test_weights_read_in_turn_all_come_back(runner: SoftEpcRunner, chain: bytes) -> None:
    """With weights twice the EPC, every inference loads each of their pages, and evicts as many."""
    with runner.start(Job(model=chain, epc_bytes=TIGHT_BYTES)) as session:
        session.sample(3)
        for sample in session.sample(3):
            assert sample.loads == pytest.approx(WEIGHT_PAGES, rel=0.1)
            assert sample.evictions == pytest.approx(sample.loads, rel=0.05)
            assert sample.handler_ns > 0
        assert session.memory().resident_bytes <= TIGHT_BYTES


def test_without_limit_nothing_pages(runner: SoftEpcRunner, chain: bytes) -> None:
    """Without a limit no page is loaded or evicted, and the model's memory is counted."""
    with runner.start(Job(model=chain)) as session:
        session.sample(3)
        assert session.sample(1)[0].paging == (0, 0, 0, 0)
        assert session.memory().model_live_bytes >= WEIGHT_PAGES * 4096


@pytest.mark.parametrize("policy", ["second-chance", "fifo"])
@pytest.mark.parametrize("threads", [1, 2])
def test_outputs_equal_native(
    runner: SoftEpcRunner, chain: bytes, native_digest: str, policy: str, threads: int
) -> None:
    """Outputs are the native ones, bit for bit, whatever the budget, the policy and the threads."""
    with runner.start(Job(model=chain, epc_bytes=TIGHT_BYTES, policy=policy, threads=threads)) as session:
        digests = [session.outputs_digest()]
        for epc_bytes in (1 << 20, 64 << 20, None):
            session.set_epc(epc_bytes)
            digests.append(session.outputs_digest())
    assert set(digests) == {native_digest}


def test_the_budget_can_change_while_it_runs(runner: SoftEpcRunner, chain: bytes) -> None:
    """A smaller EPC makes a running process page; no limit ends that."""
    with runner.start(Job(model=chain)) as session:
        session.sample(2)
        session.set_epc(TIGHT_BYTES)
        session.sample(2)
        assert session.sample(1)[0].loads > 0.5 * WEIGHT_PAGES
        session.set_epc(None)
        session.sample(1)
        assert session.sample(1)[0].paging == (0, 0, 0, 0)


def test_the_reference_kernel_does_not_page(runner: SoftEpcRunner, chain: bytes) -> None:
    """The reference kernels cause no page faults, so two inferences have the same counts."""
    with runner.start(Job(model=chain, epc_bytes=9 << 20)) as session:
        session.sample(4)
        one, other = session.sample(1)[0], session.sample(1)[0]
        assert one.paging == pytest.approx(other.paging, abs=64)


def test_the_trace_is_the_count(runner: SoftEpcRunner, chain: bytes) -> None:
    """The fault trace of an inference has about as many loads as a sample counts, each of another page."""
    with runner.start(Job(model=chain, epc_bytes=TIGHT_BYTES)) as session:
        session.sample(3)
        sample = session.sample(1)[0]
        trace = session.fault_trace()
    loads = trace.pages[trace.kinds == 1]
    assert trace.total == len(trace.pages) == len(trace.kinds)
    assert len(loads) == pytest.approx(sample.loads, rel=0.1)
    assert len(np.unique(loads)) == pytest.approx(WEIGHT_PAGES, rel=0.1)


def test_native_has_no_epc(chain: bytes) -> None:
    """The native runner refuses an EPC, at the start and later, and sees no page faults."""
    with pytest.raises(UsageError, match="no EPC"):
        NativeRunner().start(Job(model=chain, epc_bytes=1 << 20))
    with NativeRunner().start(Job(model=chain)) as session:
        with pytest.raises(UsageError, match="no EPC"):
            session.set_epc(1 << 20)
        with pytest.raises(UsageError, match="page faults"):
            session.fault_trace()
        assert len(session.sample(1)) == 1


def test_too_small_an_epc_is_refused(runner: SoftEpcRunner, chain: bytes) -> None:
    """An EPC under 64 pages is refused before a process is started, and later."""
    with pytest.raises(UsageError, match="64 pages"):
        Job(model=chain, epc_bytes=4096)
    with runner.start(Job(model=chain)) as session, pytest.raises(UsageError, match="64 pages"):
        session.set_epc(4096)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (86, EnclaveTampered, "page 7 was changed"),
        (87, EnclaveUnavailable, "page 7 was changed"),
        (88, EnclaveUnavailable, "page 7 was changed"),
        (89, EnclaveFailed, "page 7 was changed"),
        (1, EnclaveFailed, "exit code 1.*page 7 was changed"),
        (-11, EnclaveFailed, "SIGSEGV"),
        (-9, EnclaveFailed, "memory"),
    ],
)
def test_ends_are_told_apart(code: int, error: type[Exception], words: str) -> None:
    """Each way in which the process can end has its own error, with the process's message."""
    with pytest.raises(error, match=words):
        raise ended_error(code, "page 7 was changed", "softepc")


@pytest.mark.parametrize(
    "field",
    [
        {"threads": 0},
        {"deadline_s": 0.0},
        {"deadline_s": float("nan")},
        {"memory_cap_bytes": 0},
        {"policy": "lru"},
    ],
)
def test_jobs_out_of_range_are_refused(field: dict[str, object]) -> None:
    """A job that no runner can do is refused when it is made."""
    with pytest.raises(UsageError):
        Job(model=b"", **field)
