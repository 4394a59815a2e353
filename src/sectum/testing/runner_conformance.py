"""What every runner has to do.

Subclass `RunnerConformance` in a test module and give it a runner::

    class TestMine(RunnerConformance):
        @pytest.fixture
        def runner(self) -> Runner:
            return MyRunner()

A runner that this machine cannot start is skipped, with its own reason.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sectum.enclave.runners.runner import Job, Runner, RunningModel
from sectum.errors import EnclaveDeadline, EnclaveFailed, EnclaveUnavailable, RuntimeRefused, UsageError
from sectum.testing.tiny_models import convolutions, endless_loop, large_activation

_GENEROUS_S = 120.0


def descendants() -> set[int]:
    """Return the processes that descend from this one and were not collected: running ones and zombies."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            parents[int(path.parent.name)] = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
    found: set[int] = set()
    generation = {os.getpid()}
    while generation := {pid for pid, parent in parents.items() if parent in generation}:
        found |= generation
    return found


class RunnerConformance:
    """Tests that each implementation passes."""

    @pytest.fixture
    def runner(self) -> Runner:
        """Give the runner under test: every suite has its own."""
        raise NotImplementedError("give this suite a fixture named runner")

    @pytest.fixture
    def usable(self, runner: Runner) -> Runner:
        """Give the runner, if this machine can start it."""
        try:
            runner.check()
        except EnclaveUnavailable as error:
            pytest.skip(f"{runner.name}: {error}")
        return runner

    @pytest.fixture(autouse=True)
    def _no_process_left(self) -> Iterator[None]:
        """No test may leave a process or a zombie behind, whatever happened in it."""
        before = descendants()
        yield
        assert descendants() <= before

    @pytest.fixture
    def session(self, usable: Runner) -> Iterator[RunningModel]:
        """Start a small network."""
        with usable.start(Job(model=convolutions(), deadline_s=_GENEROUS_S)) as session:
            yield session

    def test_names_itself(self, runner: Runner) -> None:
        """A result can say which runner it is from and what it is worth."""
        assert isinstance(runner, Runner)
        assert re.fullmatch(r"[a-z]+", runner.name)
        assert runner.provenance in ("measured", "unverified")

    def test_samples_are_complete(self, session: RunningModel) -> None:
        """Every inference asked for comes back with its time, both references and no negative count."""
        samples = session.sample(3)
        assert len(samples) == 3
        for sample in samples:
            assert sample.latency_ns > 0
            assert sample.wall_ns >= sample.latency_ns
            assert min(sample.products_before_ns, sample.products_after_ns) > 0
            assert min(sample.sums_before_ns, sample.sums_after_ns) > 0
            assert min(*sample.paging, sample.handler_ns, sample.wait_ns) >= 0

    def test_no_sample_is_no_work(self, session: RunningModel) -> None:
        """Asking for no inference gives none."""
        assert session.sample(0) == []

    def test_describes_itself(self, session: RunningModel) -> None:
        """The process says which versions it runs and what its inputs are."""
        assert {"python", "numpy", "onnxruntime"} <= set(session.info.versions)
        assert session.info.inputs == {"x": ((1, 8, 32, 32), "float32")}

    def test_digest_is_deterministic(self, usable: Runner) -> None:
        """Same model and seed, same outputs: in one process, and in another; another seed, other outputs."""
        digests = []
        for seed in (5, 5, 6):
            with usable.start(Job(model=convolutions(), seed=seed, deadline_s=_GENEROUS_S)) as session:
                digests += [session.outputs_digest(), session.outputs_digest()]
        assert len(set(digests[:4])) == 1
        assert digests[4] != digests[0]
        assert re.fullmatch(r"[0-9a-f]{64}", digests[0])

    def test_memory_is_plausible(self, session: RunningModel) -> None:
        """What is in memory now never exceeds its own peak."""
        session.sample(1)
        memory = session.memory()
        assert 0 < memory.resident_bytes <= memory.peak_resident_bytes
        assert 0 < memory.model_live_bytes <= memory.live_bytes

    def test_operators_are_timed(self, usable: Runner) -> None:
        """The profile names the operators that ran; it needs its own kind of session, once."""
        job = Job(model=convolutions(), profile=True, deadline_s=_GENEROUS_S)
        with usable.start(job) as session:
            times = session.operator_times(4)
            assert "Conv" in {operator.type for operator in times}
            assert all(min(operator.time_us, operator.products_us, operator.sums_us) > 0 for operator in times)
            with pytest.raises(UsageError, match="profile"):
                session.operator_times(4)

    def test_operators_need_a_profiling_session(self, session: RunningModel) -> None:
        """A session that was not started for it refuses, and goes on."""
        with pytest.raises(UsageError, match="profile"):
            session.operator_times(1)
        assert len(session.sample(1)) == 1

    def test_deadline_kills(self, usable: Runner) -> None:
        """A model that never ends is stopped at its deadline."""
        job = Job(model=endless_loop(), deadline_s=2.0)
        begin_s = time.monotonic()
        with pytest.raises(EnclaveDeadline, match="deadline"), usable.start(job) as session:
            session.sample(1)
        assert time.monotonic() - begin_s < 60

    def test_memory_cap_kills(self, usable: Runner) -> None:
        """A model that takes more memory than its cap is stopped, and the message names the cap."""
        job = Job(model=large_activation(), memory_cap_bytes=256 << 20, deadline_s=_GENEROUS_S)
        with pytest.raises(EnclaveFailed, match=r"cap of 256 MiB"), usable.start(job) as session:
            session.sample(50)

    def test_crash_is_reported(self, usable: Runner) -> None:
        """A process that is killed from outside gives EnclaveFailed, not a hang."""
        before = descendants()
        with usable.start(Job(model=convolutions(), deadline_s=_GENEROUS_S)) as session:
            for pid in descendants() - before:
                os.kill(pid, signal.SIGSEGV)
            with pytest.raises(EnclaveFailed, match="SIGSEGV"):
                session.sample(1)

    def test_bad_model_is_reported(self, usable: Runner) -> None:
        """Bytes that the runtime refuses give RuntimeRefused with the runtime's own words."""
        with pytest.raises(RuntimeRefused, match="ONNXRuntimeError"):
            usable.start(Job(model=b"not a model", deadline_s=_GENEROUS_S))

    def test_close_is_idempotent(self, usable: Runner) -> None:
        """Closing twice is closing once; a closed session refuses to be asked."""
        session = usable.start(Job(model=convolutions(), deadline_s=_GENEROUS_S))
        session.close()
        session.close()
        with pytest.raises(UsageError, match="closed"):
            session.sample(1)
