"""What all sessions of one identity may use together, so that one tenant does not take what others need."""

from __future__ import annotations

from dataclasses import dataclass

from sectum.hetee.controller.environment import Clock
from sectum.hetee.controller.settings import Settings
from sectum.hetee.errors import Refusal, refusal

_FORGET_S = 300.0  # crashes count until there was none for this long
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 60.0
_LONGER = 4.0


@dataclass(eq=False)
class Share:
    """What one identity uses now.

    Attributes:
        identity: its public key, 32 bytes.
        messages: number of messages that it may send to the controller at once.
        counted_s: time at which ``messages`` was brought up to date.
        sessions: number of its sessions.
        crashes: number of its workers that have crashed.
        crashed_s: time of the last crash.
        paused_s: time before which it gets no further enclave.
    """

    identity: bytes
    messages: float
    counted_s: float
    sessions: int = 0
    crashes: int = 0
    crashed_s: float = float("-inf")
    paused_s: float = float("-inf")


class Shares:
    """The shares of all identities that have sessions, or had crashes.

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
        now, limit = self._clock(), self._settings.sessions_of_one
        for old in [share for share in self._shares.values() if not share.sessions and self._calm(share)]:
            del self._shares[old.identity]
        share = self._shares.get(identity)
        if share is None:
            share = self._shares[identity] = Share(identity, 2 * self._settings.messages_per_s, now)
        if self._left(share) < 1:
            raise refusal(Refusal.BUSY, "the sessions of this identity send too many messages")
        if share.sessions >= limit:
            raise refusal(Refusal.BUSY, f"{limit} sessions of this identity are open, the limit")
        share.sessions += 1
        return share

    def leave(self, share: Share) -> None:
        """Count the end of a session."""
        share.sessions -= 1

    def count(self, share: Share) -> None:
        """Count a message that the identity has sent.

        Raises:
            FrameRefused: ``UNEXPECTED``, it sends too many.
        """
        if self._left(share) < 1:
            rate = self._settings.messages_per_s
            raise refusal(Refusal.UNEXPECTED, f"more than {rate:g} messages a second from one identity")
        share.messages -= 1

    def _left(self, share: Share) -> float:
        now, rate = self._clock(), self._settings.messages_per_s
        share.messages = min(share.messages + (now - share.counted_s) * rate, 2 * rate)
        share.counted_s = now
        return share.messages

    def crashed(self, share: Share) -> None:
        """Count a worker that crashed. The first costs nothing, the next ones a pause of 2, 8, 32 and then 60 s."""
        if self._calm(share):
            share.crashes = 0
        share.crashes, share.crashed_s = share.crashes + 1, self._clock()
        if share.crashes > 1:
            pause_s = min(_FIRST_PAUSE_S * _LONGER ** min(share.crashes - 2, 9), _LONGEST_PAUSE_S)
            share.paused_s = share.crashed_s + pause_s

    def _calm(self, share: Share) -> bool:
        return self._clock() >= share.crashed_s + _FORGET_S
