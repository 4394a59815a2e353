"""Models forked from a warm parent behave like models started cold; a parent's death ends at most one start."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sectum.enclave.runners import warm
from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.runner import Job
from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.enclave.runners.warm import WarmRunner
from sectum.errors import EnclaveDeadline, EnclaveFailed, EnclaveUnavailable, RuntimeRefused, UsageError
from sectum.testing.tiny_models import convolutions, matrix_chain

pytestmark = pytest.mark.slow

LAYERS, SIZE = 8, 512  # 8 MiB of weights, all read in every inference
WEIGHT_PAGES = LAYERS * SIZE * SIZE * 4 // 4096
GONE_S = 20.0

JOB = Job(model=convolutions())


@pytest.fixture
def runner() -> Iterator[WarmRunner]:
    with WarmRunner(NativeRunner()) as runner:
        yield runner


@pytest.fixture(scope="module")
def enclave() -> Iterator[WarmRunner]:
    with WarmRunner(SoftEpcRunner()) as runner:
        try:
            runner.check()
        except EnclaveUnavailable as error:
            pytest.skip(f"no software enclave here: {error}")
        yield runner


def children_of(pid: int) -> list[int]:
    """Children of a process that have not been waited for yet."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until_gone(*pids: int) -> None:
    end_s = time.monotonic() + GONE_S
    while any(map(is_running, pids)):
        assert time.monotonic() < end_s, f"of {pids} some still run"
        time.sleep(0.02)


@pytest.fixture
def parents() -> set[int]:
    """Warm parents that this process has already, to recognize the new ones."""
    return set(warm_parents())


def warm_parents() -> list[int]:
    return [
        pid
        for pid in children_of(os.getpid())
        if b"sectum.enclave.runners.warm_parent" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_it_computes_what_a_cold_start_computes(runner: WarmRunner) -> None:
    """Outputs, inputs, versions and name are those of the runner that it replaces."""
    with NativeRunner().start(JOB) as cold, runner.start(JOB) as forked:
        assert forked.outputs_digest() == cold.outputs_digest()
        assert (forked.info.inputs, forked.info.versions) == (cold.info.inputs, cold.info.versions)
    assert (runner.name, runner.counts_pages) == ("native", True)
    with pytest.raises(UsageError, match="no EPC"):
        runner.start(Job(model=JOB.model, epc_bytes=1 << 20))


def test_sessions_of_one_parent_do_not_disturb_each_other(runner: WarmRunner) -> None:
    """Several models can run at once and end in any order."""
    first, second = runner.start(JOB), runner.start(JOB)
    digest = first.outputs_digest()
    first.close()
    assert second.outputs_digest() == digest
    with runner.start(JOB) as third:
        second.close()
        assert third.outputs_digest() == digest


def test_a_forked_enclave_pages(enclave: WarmRunner) -> None:
    """With weights twice the EPC all are loaded in every inference, and the outputs are the native ones."""
    job = Job(model=matrix_chain(LAYERS, SIZE), epc_bytes=4 << 20)
    with enclave.start(job) as session:
        session.sample(3)
        (sample,) = session.sample(1)
        assert sample.loads == pytest.approx(WEIGHT_PAGES, rel=0.1)
        assert session.memory().resident_bytes <= 4 << 20
        digest = session.outputs_digest()
    with NativeRunner().start(Job(model=job.model)) as native:
        assert native.outputs_digest() == digest


def test_enclaves_of_one_parent_are_apart(enclave: WarmRunner) -> None:
    """Each child has its own EPC and counts: one that fits does not page because another does."""
    model = matrix_chain(LAYERS, SIZE)
    with enclave.start(Job(model=model, epc_bytes=4 << 20)) as tight, enclave.start(Job(model=model)) as roomy:
        for session in (tight, roomy):
            session.sample(3)
        assert tight.sample(1)[0].loads > 0
        assert roomy.sample(1)[0].paging == (0, 0, 0, 0)
        tight.set_epc(None)
        tight.sample(1)
        assert tight.sample(1)[0].loads == 0


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_a_parent_that_dies_while_a_model_runs_costs_nothing(
    runner: WarmRunner, parents: set[int], kill: signal.Signals
) -> None:
    """A running model survives its parent's death; the next model has a new parent."""
    session = runner.start(JOB)
    digest = session.outputs_digest()
    (parent,) = set(warm_parents()) - parents
    (child,) = children_of(parent)
    os.kill(parent, kill)
    wait_until_gone(parent)
    assert session.outputs_digest() == digest
    assert len(session.sample(3)) == 3
    session.close()
    wait_until_gone(child)
    with runner.start(JOB) as again:
        assert again.outputs_digest() == digest


def test_a_parent_that_dies_unseen_costs_one_start(runner: WarmRunner, parents: set[int]) -> None:
    """The first start after a parent's death fails with the reason; the next one has a new parent."""
    runner.start(JOB).close()
    (parent,) = set(warm_parents()) - parents
    os.kill(parent, signal.SIGKILL)
    wait_until_gone(parent)
    with pytest.raises(EnclaveFailed, match="forked from"):
        runner.start(JOB)
    with runner.start(JOB) as again:
        assert len(again.sample(1)) == 1


def test_a_parent_that_dies_takes_its_models_along_at_the_latest_when_they_are_closed(
    runner: WarmRunner, parents: set[int]
) -> None:
    """A child that its parent no longer watches is killed, even if it would never end."""
    session = runner.start(JOB)
    (parent,) = set(warm_parents()) - parents
    (child,) = children_of(parent)
    os.kill(child, signal.SIGSTOP)
    os.kill(parent, signal.SIGKILL)
    session.close()
    wait_until_gone(child, parent)


def test_a_model_that_is_killed_costs_itself_only(runner: WarmRunner, parents: set[int]) -> None:
    """A killed child raises the same error as a killed process; its parent can fork again."""
    session = runner.start(JOB)
    (parent,) = set(warm_parents()) - parents
    (child,) = children_of(parent)
    os.kill(child, signal.SIGKILL)
    with pytest.raises(EnclaveFailed, match="SIGKILL"):
        session.sample(1)
    session.close()
    with runner.start(JOB) as again:
        assert len(again.sample(1)) == 1


def test_a_model_over_its_deadline_is_ended(runner: WarmRunner, parents: set[int]) -> None:
    """Deadline and memory cap hold for forked models."""
    session = runner.start(Job(model=JOB.model, deadline_s=2.0))
    (parent,) = set(warm_parents()) - parents
    (child,) = children_of(parent)
    with pytest.raises(EnclaveDeadline):
        session.sample(1_000_000)
    session.close()
    wait_until_gone(child)
    assert is_running(parent)


def test_a_model_that_cannot_be_loaded_says_why(runner: WarmRunner) -> None:
    """If the runtime refuses a model, the error has its message, and the next model runs."""
    with pytest.raises(RuntimeRefused, match=r"ONNXRuntimeError"):
        runner.start(Job(model=b"no model"))
    with runner.start(JOB) as session:
        assert len(session.sample(1)) == 1


def test_closing_ends_the_parent_also_with_a_model_open(parents: set[int]) -> None:
    """Closing ends all processes; a runner may be closed twice, and used again."""
    runner = WarmRunner(NativeRunner())
    session = runner.start(JOB)
    started = set(warm_parents()) - parents
    assert len(started) == 1
    session.close()
    runner.close()
    runner.close()
    wait_until_gone(*started)
    with runner.start(JOB) as again:
        assert len(again.sample(1)) == 1
    runner.close()
    wait_until_gone(*(set(warm_parents()) - parents))


def test_parents_are_replaced_and_ended_when_they_have_had_enough_children(
    runner: WarmRunner, parents: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parents are replaced after a number of children, and retired parents end."""
    monkeypatch.setattr(warm, "CHILDREN_OF_A_PARENT", 2)
    seen: set[int] = set()
    for _ in range(7):
        with runner.start(JOB):
            seen |= set(warm_parents()) - parents
    assert len(seen) == 4
    assert len(set(warm_parents()) - parents) <= 2
