"""The workers of a machine, and the accelerators that they and the jobs own."""

from __future__ import annotations

from collections.abc import Iterator

from sectum.hetee.controller.allocation import Secure, Terms
from sectum.hetee.controller.allocator import Allocator
from sectum.hetee.controller.demand import Demand
from sectum.hetee.controller.enclaves import EnclaveEntry, EnclaveState
from sectum.hetee.controller.environment import Clock, Environment
from sectum.hetee.controller.resets import WIPE_S, Resets
from sectum.hetee.controller.settings import Settings
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire.frames import Frame, plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Accelerators, Deadline, Heartbeat, Message, Started, Wiped, encode
from sectum.hetee.wire.schemas import read

REVOKE_S = 5.0
_JOB_ENDS_S = 2.0  # for the processes of a job to end, after the grace time
_SLOWEST_RESTART_S = 2.0
_STARTING_AT_ONCE = 4


class WorkerPool:
    """Starts spare workers, moves accelerators between workers, and ends workers."""

    def __init__(self, settings: Settings, environment: Environment, clock: Clock) -> None:
        grace_s, job_grace_s = REVOKE_S + settings.longest_batch_s, settings.job_grace_s + _JOB_ENDS_S
        terms = Terms(settings.quantum_s, grace_s=grace_s, job_grace_s=job_grace_s)
        self.allocator = Allocator(settings.accelerators, terms)
        self.resets = Resets(self.allocator, environment, clock)
        self.enclaves: dict[int, EnclaveEntry] = {}
        self._settings, self._environment, self._clock = settings, environment, clock
        self._demand = Demand(settings.spares, settings.spares_at_most)
        self._numbers = 0
        self._restart_s = 0.0
        self.unconfined: tuple[str, ...] = ()  # what the newest worker lacks
        self.failures = 0  # starts of workers that failed in a row

    def _in(self, *states: EnclaveState) -> Iterator[EnclaveEntry]:
        return (enclave for enclave in self.enclaves.values() if enclave.state in states)

    def refill(self, waiting: int) -> None:
        """Start workers until there is one for each session that waits, plus those of the idle queue."""
        now = self._clock()
        ready, starting = self.allocator.idle(), sum(not enclave.owned for enclave in self._in(EnclaveState.STARTING))
        wanted = min(self._demand.wanted(now) + waiting - ready, _STARTING_AT_ONCE) - starting
        room = self._settings.enclaves + self._settings.spares - len(self.enclaves)
        if waiting > ready and room <= 0:  # who is ending gives way to who waits
            for enclave in self._in(EnclaveState.DRAINING):
                enclave.kill_s = min(enclave.kill_s or now, enclave.drained_s + self._settings.quantum_s + REVOKE_S)
        for _ in range(min(wanted, room)):
            self._start(self.next_number())

    def next_number(self) -> int:
        """The number of the next worker."""
        self._numbers += 1
        return self._numbers

    def start_with(self, number: int, devices: tuple[str, ...]) -> bool:
        """Start the worker that was granted devices; it sees no others. Returns whether it was started."""
        started = self._start(number, devices)
        if started:  # its turn begins when it has started
            self.allocator.begin(Secure(number), self._clock() + self._settings.starting_s)
        return started

    def _start(self, number: int, devices: tuple[str, ...] = ()) -> bool:
        """Start a worker, unless one has just failed; returns whether it was started."""
        now = self._clock()
        if now < self._restart_s:
            return False
        try:
            pid, measurement = self._environment.start(number, devices)
        except OSError as error:
            self._start_failed(str(error))
            return False
        until_s = now + self._settings.starting_s
        self.enclaves[number] = EnclaveEntry(number, pid, measurement, until_s, owned=set(devices))
        return True

    def _start_failed(self, why: str) -> None:
        """Retry at once the first time, then after 0.1, 0.2, ... 2 s."""
        self._restart_s = self._clock() + min(0.1 * self.failures, _SLOWEST_RESTART_S)
        self.failures += 1
        self._environment.log("worker_not_started", why=why, failures=self.failures)

    def grant(self, enclave: EnclaveEntry, names: tuple[str, ...]) -> None:
        """Tell a worker what it was granted."""
        if not enclave.owned:
            self._demand.took(self._clock())
        self.allocator.begin(Secure(enclave.number), self._clock())
        enclave.owned |= set(names)
        self.resets.granted(enclave)
        self._tell(enclave.number, Kind.GRANT, Accelerators(accelerators=names))

    def revoke(self, number: int, names: tuple[str, ...]) -> None:
        """Tell a worker what it must give back."""
        self._tell(number, Kind.REVOKE, Accelerators(accelerators=names))

    def halt(self, number: int) -> None:
        """Kill a worker that has not given back in time."""
        enclave = self.enclaves[number]
        if enclave.state is EnclaveState.SERVING:
            enclave.blamed = "it did not give its accelerators back in time"
        self._kill_late(enclave)

    def misbehaved(self, number: int, error: HeteeError) -> None:
        """Kill a worker that broke the protocol."""
        if enclave := self.enclaves.get(number):
            enclave.blamed = error.detail
        self._environment.log("worker_misbehaved", worker=number, code=error.code.name, detail=error.detail)
        self._environment.kill(number)

    def _tell(self, number: int, kind: Kind, message: Message) -> None:
        self._environment.send_to_worker(number, plain_frame(kind, encode(message)))

    def linked(self, enclave: EnclaveEntry, frame: Frame) -> None:
        """Handle a worker's message.

        Raises:
            HeteeError: the worker broke the protocol.
        """
        message = read(frame.header.kind, frame.payload)
        match message:
            case Started() if enclave.state is EnclaveState.STARTING:
                lacking = sorted(self._settings.confinement - set(message.confinement))
                if lacking:
                    detail = f"a worker lacks confinement: {', '.join(message.unconfined or lacking)}"
                    raise refusal(Refusal.INTERNAL, detail)
                self.unconfined = tuple(message.unconfined)
                begun_s = (enclave.kill_s or 0.0) - self._settings.starting_s
                enclave.started, enclave.kill_s = message, None
                enclave.advance_to(EnclaveState.SPARE)
                if not enclave.owned:
                    self._demand.started(self._clock() - begun_s)
                    self.allocator.clean(enclave.number)
                self.failures = 0
            case Heartbeat() if enclave.started is not None:
                enclave.heartbeat = message
            case Accelerators() if enclave.started is not None:
                self._returned(enclave, message)
            case Wiped() if enclave.state is EnclaveState.DRAINING:
                enclave.wiped = True
                enclave.advance_to(EnclaveState.WIPED)
                self._environment.kill(enclave.number)
            case _:
                detail = f"{frame.header.kind.name} from a worker in the state {enclave.state.name.lower()}"
                raise refusal(Refusal.UNEXPECTED, detail)

    def _returned(self, enclave: EnclaveEntry, returned: Accelerators) -> None:
        names, asked = set(returned.accelerators), self.allocator.asked(Secure(enclave.number))
        if not names <= set(self.allocator.owned(Secure(enclave.number))):
            raise refusal(Refusal.UNEXPECTED, "a worker gave back accelerators that it does not own")
        if not names <= asked and enclave.state is not EnclaveState.DRAINING:
            raise refusal(Refusal.UNEXPECTED, "a worker gave back accelerators that were not revoked")
        if names & asked:  # those that come back because of WIPE are reset when the process has been collected
            self.resets.returned(enclave, names & asked)

    def wipe(self, enclave: EnclaveEntry, deadline_ms: int) -> None:
        """End a worker: it may answer open streams until the deadline, then it wipes its memory and is killed."""
        if enclave.state >= EnclaveState.DRAINING:
            if enclave.state is EnclaveState.DRAINING and deadline_ms == 0:  # nobody waits for its answers any more
                enclave.kill_s = min(enclave.kill_s or 0.0, self._clock() + WIPE_S)
                self._tell(enclave.number, Kind.WIPE, Deadline(deadline_ms=0))
            return
        enclave.advance_to(EnclaveState.DRAINING)
        enclave.drained_s = self._clock()
        self.allocator.ending(Secure(enclave.number), enclave.drained_s, REVOKE_S)
        enclave.kill_s = self._clock() + deadline_ms / 1e3 + WIPE_S
        self._tell(enclave.number, Kind.WIPE, Deadline(deadline_ms=deadline_ms))

    def collected(self, enclave: EnclaveEntry) -> None:
        """Remove a worker whose process has ended, and free the accelerators that it owned."""
        if enclave.state is EnclaveState.STARTING:
            self._start_failed("it ended before it was ready")
        enclave.advance_to(EnclaveState.CLEANED)
        del self.enclaves[enclave.number]
        self.resets.ended(enclave)

    def tick(self) -> None:
        """Kill workers that have exceeded a time limit."""
        now = self._clock()
        self.resets.tick(self.enclaves)
        for enclave in self.enclaves.values():
            if enclave.kill_s is not None and now >= enclave.kill_s:
                self._kill_late(enclave)

    def _kill_late(self, enclave: EnclaveEntry) -> None:
        enclave.kill_s = None
        self._environment.log("worker_late", worker=enclave.number, state=enclave.state.name.lower())
        self._environment.kill(enclave.number)
