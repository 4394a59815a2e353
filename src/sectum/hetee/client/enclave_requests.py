"""What a session asks its controller for: an enclave, another number of accelerators for it, and its end."""

from __future__ import annotations

import threading
from contextlib import suppress

from sectum.hetee.client.connection import HANDSHAKE_S
from sectum.hetee.client.enclave_channel import EnclaveChannel
from sectum.hetee.client.transport import Transport
from sectum.hetee.errors import EvidenceRefused, HeteeError, RecordRefused, Refusal, refusal
from sectum.hetee.wire import messages
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import AcceleratorKind

GRACE_S = 5.0
"""How much longer than its time limit an answer is waited for, so that the service can say itself that it is late."""
_ACCELERATORS, _LONGEST_WAIT_S = 32, 600.0
# The longest batch that a service may allow, and more; a controller that is lost is noticed before.
_GIVEN_BACK_S = 700.0


class EnclaveRequests:
    """The enclave of one session, from the request for it to the record of its end. Thread-safe."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._closed = False
        self._one_resize = threading.Lock()

    def configure(self, accelerator: AcceleratorKind, count: int, wait_s: float) -> None:
        """Ask for an enclave, and wait until it is ready, as `Session.configure`."""
        transport = self._transport
        transport.until(
            lambda: transport.accept is not None, HANDSHAKE_S, Refusal.HANDSHAKE_LATE, "no answer to the handshake"
        )
        configure = messages.Configure(accelerator=accelerator, count=count, wait_ms=int(wait_s * 1e3))
        transport.control(Kind.CONFIGURE, configure)
        self.ready(wait_s + GRACE_S)

    def ready(self, wait_s: float) -> EnclaveChannel:
        """Wait until the worker is ready; returns its channel.

        Raises:
            ServiceRefused: ``BUSY``, there is none in time.
            HeteeError: the service refused the request, or the session has ended.
        """
        transport = self._transport

        def there() -> bool:
            if transport.refused is not None:
                error, transport.refused = transport.refused, None
                raise error
            return transport.enclave is not None and transport.enclave.ready is not None

        with transport.changed:
            transport.until(there, wait_s, Refusal.BUSY, "no enclave became ready in time")
            assert transport.enclave is not None
            return transport.enclave

    def resize(self, count: int, wait_s: float) -> tuple[str, ...]:
        """Give the enclave another number of accelerators, as `Session.resize`."""
        if not 1 <= count <= _ACCELERATORS:
            detail = f"an enclave of {count} accelerators, expected 1 to {_ACCELERATORS}"
            raise refusal(Refusal.NO_ACCELERATOR, detail)
        transport = self._transport
        with self._one_resize:
            self.ready(wait_s)
            transport.resized, transport.resizing = None, True
            try:
                transport.control(
                    Kind.RESIZE, messages.Resize(count=count, wait_ms=int(min(wait_s, _LONGEST_WAIT_S) * 1e3))
                )
                late = Refusal.CONTROLLER_LOST, "the controller did not answer RESIZE"
                transport.until(lambda: transport.resized is not None, wait_s + _GIVEN_BACK_S, *late)
            except HeteeError as error:
                transport.fail(error)
                raise
            finally:
                transport.resizing = False
        answer = transport.resized
        assert answer is not None
        for failure in answer.refused:
            raise refusal(failure.code, failure.detail)
        return answer.accelerators

    def close(self, deadline_ms: int) -> None:
        """End the enclave and the session, and check the signed cleaning records, as `Session.close`."""
        transport = self._transport
        if transport.failed is None and transport.enclaves:
            with suppress(HeteeError):  # the session may end by itself meanwhile
                self._terminate(deadline_ms)
        transport.close()
        error = transport.failed
        if isinstance(error, EvidenceRefused | RecordRefused) and error.code is not Refusal.WIPED:
            raise error
        missing = sorted(set(range(transport.enclaves)) - set(transport.cleanings))
        if missing and not self._closed:
            self._closed = True
            why = f": {error}" if error is not None and error.code is not Refusal.WIPED else ""
            detail = f"the end of enclave {missing[0]} was not confirmed by a signed record{why}"
            raise refusal(Refusal.UNPROVEN, detail)
        self._closed = True

    def _terminate(self, deadline_ms: int) -> None:
        transport, enclave = self._transport, self._transport.enclave

        def ended() -> bool:
            return transport.failed is not None

        if enclave is not None and enclave.ready is not None and deadline_ms:
            transport.finishing = True
            transport.to_worker(enclave, Kind.FINISH, messages.Empty())
            with transport.changed:
                transport.changed.wait_for(
                    lambda: ended() or transport.enclave is not enclave or enclave.finished is not None,
                    deadline_ms / 1e3,
                )
                counts = enclave.finished
            if counts is not None and (counts.answered, counts.refused) != (enclave.answered, enclave.refused):
                transport.fail(refusal(Refusal.GAP, "the worker's count of answers differs from the number received"))
        transport.finishing, transport.ending = False, True
        transport.control(Kind.TERMINATE, messages.Deadline(deadline_ms=deadline_ms))
        with transport.changed:
            transport.changed.wait_for(ended, deadline_ms / 1e3 + GRACE_S)
