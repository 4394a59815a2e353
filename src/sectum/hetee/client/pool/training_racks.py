"""The racks that train a job: they are verified, used together, and exchanged when one is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from sectum.hetee.client.pool.board import another_may_answer, is_final
from sectum.hetee.client.pool.connector import Connector
from sectum.hetee.client.pool.lane import RackReport
from sectum.hetee.client.session import Session
from sectum.hetee.client.training import Training
from sectum.hetee.errors import CleaningUnproven, HeteeError, Refusal, refusal

T = TypeVar("T")
_PAUSE_S = 0.5


@dataclass(frozen=True)
class Move:
    """One move to another rack.

    Attributes:
        lost: address of the rack that was lost.
        rack: address of the one that went on; with several, they are separated by commas.
        step: number of steps of the checkpoint that it went on from.
        why: what happened to the first rack.
    """

    lost: str
    rack: str
    step: int
    why: HeteeError


class TrainingRacks:
    """The racks that train a job now, and what is known of all that were used. Its caller holds a lock.

    Args:
        connector: makes sessions.
        urls: names the racks of the pool.
        count: number of racks that train together.

    Attributes:
        members: the sessions with those that train now, by address, in the order of their ranks.
        reports: what is known of each rack.
        moves: the moves so far.
    """

    def __init__(self, connector: Connector, urls: Callable[[], Sequence[str]], count: int) -> None:
        self._connector, self._urls, self._count = connector, urls, count
        self.members: dict[str, Session] = {}
        self.reports: dict[str, RackReport] = {}
        self.moves: list[Move] = []
        self._lost = ""

    def begin(
        self,
        train: Callable[[Session], Training],
        join: Callable[[list[Training]], T],
        why: HeteeError | None,
        ended: Callable[[], HeteeError | None],
    ) -> T:
        """Begin on the first racks that serve; the one that was lost comes last.

        Args:
            train: begins the job on a rack.
            join: makes one training of those of all racks.
            why: what happened to the rack that was lost; fewer racks are enough then. None at the beginning.
            ended: why to try no longer; None while there is no reason.

        Raises:
            WorkRefused: the job cannot be trained.
            HeteeError: not enough racks serve, with the reason of each.
        """
        until_s, reasons = time.monotonic() + self._connector.wait_s, dict[str, HeteeError]()
        while (error := ended()) is None:
            trainings = self._gather(train, reasons)
            if len(trainings) == self._count or (trainings and why is not None):
                try:
                    made = join(trainings)
                except HeteeError as failed:
                    self.drop_all(failed)
                    if why is None or not another_may_answer(failed):
                        raise
                    continue
                if why is not None:
                    self.moves.append(Move(self._lost, ", ".join(self.members), trainings[0].done, why))
                return made
            self.drop_all(None)
            if time.monotonic() > until_s or why is None or all(map(is_final, reasons.values())):
                raise self._too_few(len(trainings), reasons)
            time.sleep(_PAUSE_S)
        raise error

    def _gather(self, train: Callable[[Session], Training], reasons: dict[str, HeteeError]) -> list[Training]:
        trainings: list[Training] = []
        for url in sorted(self._urls(), key=lambda url: url == self._lost):
            if len(trainings) == self._count or (url in reasons and is_final(reasons[url])):
                continue
            try:
                trainings.append(self._begin_on(url, train))
            except HeteeError as error:
                self._drop(url, error)
                if not another_may_answer(error):
                    self.drop_all(None)
                    raise
                reasons[url] = error
        return trainings

    def _begin_on(self, url: str, train: Callable[[Session], Training]) -> Training:
        session = self._connector.connect(url)
        known = self.reports.get(url, RackReport(url, "serving", 0, 0, None, None))
        claims = session.trust.controller
        assert claims is not None
        for other in self.members.values():
            if other.trust.controller is not None and other.trust.controller.device == claims.device:
                with suppress(HeteeError):  # the first error matters more
                    session.close(0)
                raise refusal(Refusal.NOT_GENUINE, f"{url} is a rack that this job has under another address")
        self.members[url] = session
        self.reports[url] = replace(known, state="serving", trust=session.trust, error=None)
        return train(session)

    def _too_few(self, found: int, reasons: dict[str, HeteeError]) -> HeteeError:
        why = "; ".join(f"{url}: {error.detail}" for url, error in reasons.items())
        if self._count == 1:
            return refusal(list(reasons.values())[-1].code, f"no rack of the pool trains: {why}")
        detail = f"{self._count} racks are to train the job, {found} of the pool can"
        code = list(reasons.values())[-1].code if reasons else Refusal.NO_ACCELERATOR
        return refusal(code, f"{detail}: {why}" if why else detail, "" if why else "ask for fewer, or start more racks")

    def answered(self) -> None:
        """Count a step that the members have done."""
        for url in self.members:
            known = self.reports[url]
            self.reports[url] = replace(known, answered=known.answered + 1)

    def lose(self, rank: int, error: HeteeError) -> None:
        """End all sessions, because the rack of this rank, or one whose session has ended by itself, was lost."""
        ended = [url for url, session in self.members.items() if session.failed is not None]
        self._lost = (ended or list(self.members))[0 if ended else min(rank, len(self.members) - 1)]
        for url, session in list(self.members.items()):
            failed = error if url == self._lost else session.failed
            if failed is not None:
                self._drop(url, failed)
        self.drop_all(None)

    def drop_all(self, error: HeteeError | None, deadline_ms: int = 0) -> None:
        """End the sessions with all members; with an error, its racks count as lost if their sessions have ended."""
        for url, session in list(self.members.items()):
            with suppress(HeteeError):  # the report of the rack says what is missing
                self._drop(url, session.failed if error is not None else None, deadline_ms)

    def close(self, deadline_ms: int) -> None:
        """End the sessions with all members.

        Raises:
            HeteeError: as `Session.close`, after all were ended.
        """
        errors = []
        for url in list(self.members):
            try:
                self._drop(url, None, deadline_ms)
            except HeteeError as error:
                errors.append(error)
        if errors:
            raise next((error for error in errors if not isinstance(error, CleaningUnproven)), errors[0])

    def _drop(self, url: str, error: HeteeError | None, deadline_ms: int = 0) -> None:
        session = self.members.pop(url, None)
        known = self.reports.get(url, RackReport(url, "lost", 0, 0, None, None))
        state = known.state if error is None else "refused" if is_final(error) else "lost"
        unproven = 0
        try:
            if session is not None:
                session.close(deadline_ms)
        except CleaningUnproven:
            unproven = 1
            if error is None:
                raise
        except HeteeError:
            if error is None:
                raise
        finally:
            self.reports[url] = replace(known, state=state, error=error, unproven=known.unproven + unproven)
