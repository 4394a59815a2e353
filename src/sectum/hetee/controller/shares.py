"""What all sessions of one identity may use together, so that one tenant does not take what others need."""

from __future__ import annotations

from dataclasses import dataclass

from sectum.hetee.controller.environment import Clock
from sectum.hetee.controller.settings import Settings
from sectum.hetee.errors import Refusal, refusal

_FORGET_S = 300.0  # crashes count until there was none for this long
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 60.0
_LONGER = 4.0


class Allowance:
    """Messages that a peer may send: so many a second, and ``burst`` at once.

    Args:
        rate: messages a second.
        burst: messages at once.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._counted_s = burst, float("-inf")

    def left(self, now: float) -> float:
        """How many may be sent at this time."""
        self._left = min(self._left + (now - self._counted_s) * self._rate, self._burst)
        self._counted_s = now
        return self._left

    def take(self, now: float, whose: str) -> None:
        """Count a message.

        Raises:
            FrameRefused: ``UNEXPECTED``, it is one too many.
        """
        if self.left(now) < 1:
            raise refusal(Refusal.UNEXPECTED, f"more than {self._rate:g} messages a second from one {whose}")
        self._left -= 1


@dataclass(eq=False)
class Share:
    """What one identity uses now.

    Attributes:
        identity: its public key, 32 bytes.
        messages: what it may send to the controller.
        sessions: number of its sessions.
        crashes: number of its workers that have crashed.
        crashed_s: time of the last crash.
        paused_s: time before which it gets no further enclave.
    """

    identity: bytes
    messages: Allowance
    sessions: int = 0
    crashes: int = 0
    crashed_s: float = float("-inf")
    paused_s: float = float("-inf")


class Shares:
    """The shares of all identities that have sessions, or recently had crashes or sent much.

    Args:
        settings: limits.
        clock: monotonic time in seconds.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._shares: dict[bytes, Share] = {}

    def enter(self, identity: bytes) -> Share:
        """Count one more session of an identity.

        Raises:
            ServiceRefused: ``BUSY``, it has as many as it may have.
        """
        limit, rate = self._settings.sessions_of_one, self._settings.messages_per_s
        now = self._clock()
        for old in [share for share in self._shares.values() if not share.sessions and self._calm(share)]:
            if old.messages.left(now) >= 2 * rate:
                del self._shares[old.identity]
        share = self._shares.get(identity)
        if share is None:
            share = self._shares[identity] = Share(identity, Allowance(rate, 2 * rate))
        if share.messages.left(now) < 1:
            raise refusal(Refusal.BUSY, "the sessions of this identity send too many messages")
        if share.sessions >= limit:
            raise refusal(Refusal.BUSY, f"{limit} sessions of this identity are open, the limit")
        share.sessions += 1
        return share

    def leave(self, share: Share) -> None:
        """Count the end of a session."""
        share.sessions -= 1

    def crashed(self, share: Share) -> float:
        """Count a worker that crashed. The first costs nothing, the next ones a pause of 2, 8, 32 and then 60 s.

        Returns:
            Time before which this identity gets no further enclave.
        """
        # All of its sessions may have ended meanwhile, and others may have begun: then there is another share.
        share = self._shares.setdefault(share.identity, share)
        if self._calm(share):
            share.crashes = 0
        share.crashes, share.crashed_s = share.crashes + 1, self._clock()
        if share.crashes > 1:
            pause_s = min(_FIRST_PAUSE_S * _LONGER ** min(share.crashes - 2, 9), _LONGEST_PAUSE_S)
            share.paused_s = share.crashed_s + pause_s
        return share.paused_s

    def _calm(self, share: Share) -> bool:
        return self._clock() >= share.crashed_s + _FORGET_S
