"""Runs a network in a chain of software enclaves: each has a process and an EPC of its own, and sealed links join them.

The processes are started by the owner of the model, who gives each its part of the plan, the model, and the keys of its
links. What goes over a link passes through a relay, which stands for the untrusted host and its network.
"""

from __future__ import annotations

import secrets
import socket
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from sectum.enclave.runners.launch import LinkEnded
from sectum.enclave.runners.process import ChildSession
from sectum.enclave.runners.relay import Carry, Pace, Relay, as_it_is
from sectum.enclave.runners.runner import (
    PROVENANCE_MEASURED,
    Job,
    OperatorTime,
    ProcessMemory,
    Sample,
    SessionInfo,
)
from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.enclave.streaming.chained import Place
from sectum.enclave.streaming.sealed_link import KEY_BYTES
from sectum.errors import EnclaveFailed, EnclaveTampered, SectumError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Observed:
    """What one enclave did.

    Attributes:
        samples: its part of each inference.
        memory: of its process after the last one.
        streaming: what `sectum.enclave.streaming.chained.ChainedSession.describe` gives.
        link_ms: median time of a message on the link to the next enclave; None for the last enclave.
    """

    samples: tuple[Sample, ...]
    memory: ProcessMemory
    streaming: Mapping[str, Any]
    link_ms: float | None


class ChainRunner:
    """Runs a model in a chain of software enclaves; implements `sectum.enclave.runners.runner.Runner`.

    The job's ``streams`` have an entry for each enclave, as `sectum.plan.chain_running.prepared_chain` makes them.
    Of its ``epc_bytes`` each enclave has as much as its entry says.

    Args:
        pace: of the links.
        carry: what the host does with the messages: forwards them, but for tests that attack.
    """

    name = "softepc"
    provenance = PROVENANCE_MEASURED
    counts_pages = True

    def __init__(self, pace: Pace, carry: Carry = as_it_is) -> None:
        self._pace, self._carry = pace, carry
        self._runner = SoftEpcRunner()
        self.observed: list[tuple[Observed, ...]] = []

    def check(self) -> None:
        """See `SoftEpcRunner.check`.

        Raises:
            EnclaveUnavailable: the machine lacks something.
            EnclaveFailed: the pager does not work.
        """
        self._runner.check()

    def start(self, job: Job) -> ChainSession:
        """Start all processes and load each part of the model.

        Raises:
            EnclaveError: one of them could not be started; the message says which, and why.
        """
        self.check()
        return ChainSession(job, self._runner, self._pace, self._carry, self.observed)


class ChainSession:
    """A running chain; implements `sectum.enclave.runners.runner.RunningModel`.

    What each enclave did is added to ``observed`` when memory is asked for.
    """

    def __init__(
        self, job: Job, runner: SoftEpcRunner, pace: Pace, carry: Carry, observed: list[tuple[Observed, ...]]
    ) -> None:
        stop = threading.Event()
        jobs = _jobs(replace(job, stop=stop))
        self._epcs = [one.epc_bytes for one in jobs]
        self._observed = observed
        self._samples: list[list[Sample]] = [[] for _ in jobs]
        self._children: list[ChildSession] = []
        self._relays: list[Relay] = []
        self._pool = ThreadPoolExecutor(len(jobs), "enclave")
        begin = time.monotonic()
        with ExitStack() as ends:
            places, ways = _places(len(jobs), ends)
            self._relays = [Relay(number, *way, pace, carry) for number, way in enumerate(ways)]
            started = [
                self._pool.submit(runner.start, replace(one, link=place.to_json()))
                for one, place in zip(jobs, places, strict=True)
            ]
            early: set[Future[ChildSession]] = set()
            try:
                early, _ = wait(started, return_when=FIRST_EXCEPTION)
            finally:
                if len(early) < len(jobs):  # one has failed, or Ctrl-C was pressed
                    stop.set()
                wait(started)  # the processes inherit the ends of their links, so these stay open until then
                self._children = [one.result() for one in started if one.exception() is None]
                if stop.is_set() or len(self._children) < len(jobs):
                    self.close()
        if not self._children:
            raise _cause(started, [one for one in started if one in early])
        versions = self._children[0].info.versions
        self.info = SessionInfo(versions, self._children[0].info.inputs, time.monotonic() - begin)

    # The requests.

    def _all(self, ask: Callable[[ChildSession], T]) -> list[T]:
        """Ask all enclaves at once: each waits for the one before.

        Raises:
            EnclaveError: one of them ended; the message says which.
            UsageError: the session is closed.
        """
        if not self._children:
            raise UsageError("this chain of enclaves is closed or has ended: start another one")
        asked = [self._pool.submit(ask, child) for child in self._children]
        done, _ = wait(asked, return_when=FIRST_EXCEPTION)
        if not any(one.exception() for one in done):
            return [one.result() for one in asked]
        self._end_links()
        wait(asked)
        self.close()
        raise _cause(asked, [one for one in asked if one in done])

    def _end_links(self) -> None:
        for relay in self._relays:
            relay.close()

    def sample(self, n: int) -> list[Sample]:
        """Run ``n`` inferences, one at a time; the time of the links is not part of their latency.

        A request is in one enclave at a time, so that enclaves do not compete for the machine's cores.
        """
        found = []
        for _ in range(n):
            begin = time.perf_counter_ns()
            parts = [rows[0] for rows in self._all(lambda child: child.sample(1))]
            found.append(_together(parts, time.perf_counter_ns() - begin))
            for kept, part in zip(self._samples, parts, strict=True):
                kept.append(part)
        return found

    def between_results_ms(self, requests: int) -> float:
        """Let requests follow each other through the pipeline; the mean time between two results.

        Args:
            requests: at least two after as many as there are enclaves, which fill the pipeline.
        """
        fill = len(self._children)
        done_ns = self._all(lambda child: child.stream(fill + requests))[-1][fill:]
        return (done_ns[-1] - done_ns[0]) / (len(done_ns) - 1) / 1e6

    def outputs_digest(self) -> str:
        """SHA-256, in hex, over name, type, shape and bytes of each output of one inference."""
        return self._all(ChildSession.outputs_digest)[-1]

    def outputs(self) -> dict[str, NDArray[np.generic]]:
        """Run one inference; its outputs by name."""
        return self._all(ChildSession.outputs)[-1]

    def memory(self) -> ProcessMemory:
        """Memory of all processes together; what each did is kept."""
        each = self._all(ChildSession.memory)
        streaming = self._all(ChildSession.streaming)
        link_ms = [statistics.median(relay.took_ns) / 1e6 if relay.took_ns else 0.0 for relay in self._relays]
        self._observed.append(
            tuple(
                Observed(tuple(samples), memory, told, ms)
                for samples, memory, told, ms in zip(self._samples, each, streaming, [*link_ms, None], strict=True)
            )
        )
        fields = ProcessMemory.__dataclass_fields__
        return ProcessMemory(**{name: sum(getattr(one, name) for one in each) for name in fields})

    def set_epc(self, epc_bytes: int | None) -> None:
        """Give each enclave this EPC, but no more than its own; None: its own.

        Raises:
            UsageError: it is too small.
        """
        own = iter(self._epcs)
        sizes = {id(child): _least(epc_bytes, next(own)) for child in self._children}
        self._all(lambda child: child.set_epc(sizes[id(child)]))

    def operator_times(self, n: int) -> list[OperatorTime]:
        """Not for a chain.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"operators of a chain of enclaves are not timed ({n} inferences): run the model natively")

    def close(self) -> None:
        """End all processes and links. May be called again."""
        self._end_links()
        children, self._children = self._children, []
        for child in children:
            child.close()
        self._pool.shutdown(wait=False)

    def __enter__(self) -> ChainSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _jobs(job: Job) -> list[Job]:
    """The job of each enclave."""
    if job.streams is None:
        raise UsageError("a chain of enclaves runs a plan: give its streams")
    enclaves = job.streams["enclaves"]
    common = {name: value for name, value in job.streams.items() if name != "enclaves"}
    return [
        replace(
            job,
            epc_bytes=_least(job.epc_bytes, one["epc_bytes"]),
            threads=one["threads"],
            inputs={} if number else job.inputs,
            streams={**common, **{name: one[name] for name in ("buffers", "buffer_bytes", "arena_bytes")}},
        )
        for number, one in enumerate(enclaves)
    ]


def _least(epc_bytes: int | None, own: int | None) -> int | None:
    return own if epc_bytes is None else epc_bytes if own is None else min(epc_bytes, own)


def _places(count: int, ends: ExitStack) -> tuple[list[Place], list[tuple[socket.socket, socket.socket]]]:
    """Where each enclave is, and the relays' ends of each link. The enclaves' ends close with the stack."""
    places = [Place(number=number) for number in range(count)]
    ways = []
    for number in range(count - 1):
        key = secrets.token_bytes(KEY_BYTES)
        sends, source = socket.socketpair()
        sink, receives = socket.socketpair()
        ends.enter_context(sends)
        ends.enter_context(receives)
        places[number] = replace(places[number], send=sends.fileno(), send_key=key)
        places[number + 1] = replace(places[number + 1], receive=receives.fileno(), receive_key=key)
        ways.append((source, sink))
    return places, ways


def _together(parts: Sequence[Sample], whole_ns: int) -> Sample:
    """One inference of the parts that the enclaves ran, one after the other.

    A reference time is the mean over the enclaves, weighted by how long each took.
    """
    total = sum(part.latency_ns for part in parts)
    made: dict[str, int] = {}
    for name in Sample.__dataclass_fields__:
        if name.startswith(("products_", "sums_")):
            made[name] = round(sum(getattr(part, name) * part.latency_ns for part in parts) / total)
        else:
            made[name] = sum(getattr(part, name) for part in parts)
    made["wall_ns"] = max(whole_ns, made["wall_ns"])
    return Sample(**made)


def _cause(asked: Sequence[Future[Any]], first: Sequence[Future[Any]]) -> BaseException:
    """The error that made the others, with the number of its enclave; that a link ended is never the cause."""
    of_all = f" of {len(asked)}"
    errors = [(number, error) for number, one in enumerate(asked) if (error := one.exception()) is not None]
    early = {id(one.exception()) for one in first}

    def rank(entry: tuple[int, BaseException]) -> tuple[bool, bool, bool]:
        error = entry[1]
        return isinstance(error, LinkEnded), id(error) not in early, isinstance(error, EnclaveTampered)

    number, error = min(errors, key=rank)
    if isinstance(error, LinkEnded):
        return EnclaveFailed(f"the link of enclave {number}{of_all} ended, and no enclave says why: run again")
    return type(error)(f"enclave {number}{of_all}: {error}") if isinstance(error, SectumError) else error
