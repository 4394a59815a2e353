"""Sessions over several racks: who gets which batch, and that every batch is answered once, whatever racks do."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from hetee_fake_racks import LOST, FakeConnector, FakeRack, FakeSession
from sectum.hetee.client.pool import PoolSession, RackResult
from sectum.hetee.client.pool.board import MOST_MOVES
from sectum.hetee.errors import CleaningUnproven, HeteeError, Refusal, WorkRefused, refusal

MODEL = b"a model"
FALSE = refusal(Refusal.NOT_GENUINE, "not chained to a trusted root")

Open = Callable[..., PoolSession]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Racks are tried again after milliseconds."""
    monkeypatch.setattr("sectum.hetee.client.pool.lane._FIRST_RETRY_S", 0.002)
    monkeypatch.setattr("sectum.hetee.client.pool.lane._SLOWEST_RETRY_S", 0.01)
    monkeypatch.setattr("sectum.hetee.client.pool.session._ASKED_EVERY_S", 0.01)


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens sessions over fake racks, and ends them."""
    sessions: list[PoolSession] = []

    def open_(racks: dict[str, FakeRack], named: Any = None, wait_s: float = 5.0) -> PoolSession:
        sessions.append(PoolSession(named or list(racks), FakeConnector(racks, wait_s=wait_s)))  # type: ignore[arg-type]
        return sessions[-1]

    yield open_
    for session in sessions:
        try:
            session.close(0)
        except HeteeError:
            continue


def wait(true: Callable[[], Any]) -> Any:
    """Wait a little until something comes true."""
    until_s = time.monotonic() + 10
    while time.monotonic() < until_s:
        if found := true():
            return found
        time.sleep(0.001)
    raise AssertionError("it did not come true")


def all_serve(session: PoolSession) -> bool:
    return all(rack.state == "serving" for rack in session.racks)


def own(number: int, future: Future[RackResult]) -> RackResult:
    """The result of a batch of one number, which must be its own."""
    result = future.result(10)
    assert result.outputs["y"] == number + 1
    assert result.receipt is not None
    return result


def test_batches_are_spread_and_keep_their_callers(opened: Open) -> None:
    """No rack gets more than it has room for, each future gets the answer of its batch, and says which rack gave it."""
    racks = {name: FakeRack(name, at_once=False) for name in ("a", "b")}
    session = opened(racks)
    session.load(MODEL)
    wait(lambda: all_serve(session))
    futures = [session.submit(number) for number in range(9)]
    wait(lambda: [rack.waiting for rack in racks.values()] == [2, 2])
    racks["b"].at_once = True
    racks["b"].answer()
    wait(lambda: sum(future.done() for future in futures) == 7)
    racks["a"].answer()
    results = [own(number, future) for number, future in enumerate(futures)]
    assert {result.rack for result in results} == {"a", "b"}
    assert all(result.device == result.rack.encode() for result in results)
    assert {rack.url: rack.answered for rack in session.racks} == {"a": 2, "b": 7}


def test_unanswered_batches_of_a_lost_rack_go_to_another(opened: Open) -> None:
    """What a rack had not answered is answered by another one, in the order of the calls, and nothing twice."""
    racks = {"a": FakeRack("a", at_once=False), "b": FakeRack("b", at_once=False)}
    session = opened(racks)
    session.load(MODEL)
    wait(lambda: all_serve(session))
    futures = [session.submit(number) for number in range(6)]
    wait(lambda: racks["a"].waiting == 2)
    racks["b"].at_once = True
    racks["a"].error = LOST
    racks["a"].die()
    racks["b"].answer()
    results = [own(number, future) for number, future in enumerate(futures)]
    assert {result.rack for result in results} == {"b"}
    wait(lambda: session.racks[0].state == "lost")
    racks["a"].error = None
    wait(lambda: all_serve(session))


@pytest.mark.parametrize("seed", range(12))
def test_every_batch_is_answered_once_under_random_deaths(
    opened: Open, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Racks that die and come back at random lose no batch, and none is answered twice or with another's result."""
    monkeypatch.setattr("sectum.hetee.client.pool.board.MOST_MOVES", 1000)
    rng = random.Random(seed)
    racks = {name: FakeRack(name, at_once=False) for name in ("a", "b", "c")}
    session = opened(racks)
    session.load(MODEL)
    answered: list[int] = []
    ended = threading.Event()

    def happen() -> None:
        while not ended.wait(rng.random() * 0.002):
            rack = rng.choice(list(racks.values()))
            if rng.random() < 0.05:
                rack.die()
            elif rng.random() < 0.1:
                for each in rack.sessions:
                    each.answer(signed=False)  # outputs whose receipt may never come
            else:
                rack.answer()

    thread = threading.Thread(target=happen)
    thread.start()
    try:
        futures = []
        for number in range(60):
            futures.append(session.submit(number))
            futures[-1].add_done_callback(lambda _done, number=number: answered.append(number))
            if number % 7 == 0:
                time.sleep(0.001)
        for number, future in enumerate(futures):
            own(number, future)
    finally:
        ended.set()
        thread.join()
    assert sorted(answered) == list(range(60))


def test_outputs_whose_receipt_did_not_come_are_no_answer(opened: Open) -> None:
    """A rack that is lost between a result and its receipt has not answered: another rack does, with a receipt."""
    racks = {"a": FakeRack("a", at_once=False), "b": FakeRack("b")}
    racks["b"].error = LOST
    session = opened(racks)
    session.load(MODEL)
    future = session.submit(1)
    wait(lambda: racks["a"].waiting == 1)
    racks["a"].sessions[0].answer(signed=False)
    assert not future.done()
    racks["b"].error, racks["a"].error = None, LOST
    racks["a"].die()
    assert own(1, future).rack == "b"


def test_a_batch_that_is_wrong_is_not_moved(opened: Open) -> None:
    """Inputs that do not fit the model are refused once; other racks are not asked."""
    racks = {"a": FakeRack("a"), "b": FakeRack("b")}
    session = opened(racks)
    session.load(MODEL)
    with pytest.raises(WorkRefused) as caught:
        session.infer(None)
    assert caught.value.code is Refusal.INPUT_REFUSED


def test_a_batch_that_ends_every_rack_is_refused(opened: Open) -> None:
    """A batch that was moved three times and is lost again is not sent to all racks of the world."""
    rack = FakeRack("a", at_once=False)
    session = opened({"a": rack})
    session.load(MODEL)
    future = session.submit(1)
    for _ in range(MOST_MOVES + 1):
        wait(lambda: rack.waiting == 1)
        rack.die()
    with pytest.raises(HeteeError) as caught:
        future.result(10)
    assert caught.value.code is Refusal.HOST_LOST


def test_a_rack_that_is_not_trusted_is_asked_once(opened: Open) -> None:
    """Evidence that is refused is final: the rack gets no second handshake, and no model."""
    racks = {"a": FakeRack("a"), "false": FakeRack("false")}
    racks["false"].error = FALSE
    session = opened(racks)
    session.load(MODEL)
    wait(lambda: {rack.url: rack.state for rack in session.racks} == {"a": "serving", "false": "refused"})
    assert [own(number, session.submit(number)).rack for number in range(4)] == ["a"] * 4
    assert racks["false"].sessions == []


def test_without_a_rack_the_reason_of_each_is_told(opened: Open) -> None:
    """If no rack serves, loading fails with what was wrong with each; if all are refused, waiting batches do, too."""
    racks = {"a": FakeRack("a"), "b": FakeRack("b")}
    racks["a"].error, racks["b"].error = FALSE, LOST
    session = opened(racks)
    with pytest.raises(HeteeError, match=r"a: not chained.*b: the connection"):
        session.load(MODEL)
    lost = FakeRack("c", at_once=False)
    session = opened({"c": lost})
    session.load(MODEL)
    future = session.submit(1)
    wait(lambda: lost.waiting == 1)
    lost.error = FALSE
    lost.die()
    with pytest.raises(HeteeError, match="c: not chained"):
        future.result(10)
    with pytest.raises(HeteeError, match="c: not chained"):
        session.submit(2)


def test_batches_do_not_wait_for_ever(opened: Open) -> None:
    """When all racks stay lost for the waiting time, what waits is refused."""
    rack = FakeRack("a", at_once=False)
    session = opened({"a": rack}, wait_s=0.05)
    session.load(MODEL)
    future = session.submit(1)
    wait(lambda: rack.waiting == 1)
    rack.error = LOST
    rack.die()
    with pytest.raises(HeteeError, match="no rack of the pool serves"):
        future.result(10)


def test_one_machine_under_two_addresses_is_one_rack(opened: Open) -> None:
    """A second address of the same machine is refused before it gives an enclave."""
    racks = {"a": FakeRack("machine"), "b": FakeRack("machine")}
    session = opened(racks)
    session.load(MODEL)
    wait(lambda: sorted(rack.state for rack in session.racks) == ["refused", "serving"])
    assert sorted(len([each for each in rack.sessions if each.index is not None]) for rack in racks.values()) == [0, 1]


def test_a_new_enclave_gets_the_models_again(opened: Open) -> None:
    """When only the enclave of a rack is lost, the next one gets the models and the batches."""
    rack = FakeRack("a", at_once=False)
    session = opened({"a": rack})
    session.load(MODEL)
    future = session.submit(5)
    wait(lambda: rack.waiting == 1)
    rack.sessions[0].replace_enclave()
    wait(lambda: rack.waiting == 1)
    rack.answer()
    own(5, future)
    assert rack.sessions[0].loads == [MODEL, MODEL]


def test_a_rack_that_is_being_stopped_does_not_use_up_a_batch(opened: Open) -> None:
    """Refusals while sending are no losses: the batch waits until a rack takes it."""
    rack, refusals = FakeRack("a"), iter(range(3 * MOST_MOVES))

    def draining(_session: FakeSession) -> None:
        if next(refusals, None) is not None:
            raise refusal(Refusal.DRAINING, "it is being stopped")

    session = opened({"a": rack})
    session.load(MODEL)
    rack.before_submit = draining
    own(3, session.submit(3))


def test_a_bad_model_is_refused_and_forgotten(opened: Open) -> None:
    """A model that a rack refuses is refused, and what was loaded before goes on."""
    session = opened({"a": FakeRack("a")})
    loaded = session.load(MODEL)
    with pytest.raises(WorkRefused):
        session.load(b"bad")
    own(1, session.submit(1, model=loaded))
    with pytest.raises(WorkRefused, match="no such model"):
        opened({"a": FakeRack("a")}).submit(1)


def test_racks_that_are_named_later_join(opened: Open) -> None:
    """A function that names racks is asked again, and its failures are passed over."""
    racks = {"a": FakeRack("a"), "b": FakeRack("b")}
    named = iter([["a"], LOST, ["a", "b"]])

    def names() -> list[str]:
        found = next(named, ["b"])
        if isinstance(found, HeteeError):
            raise found
        return found

    session = opened(racks, names)
    session.load(MODEL)
    wait(lambda: len(session.racks) == 2 and all_serve(session))
    with pytest.raises(HeteeError, match="no rack"):
        opened(racks, list)


def test_the_end_names_racks_without_a_record(opened: Open) -> None:
    """A session that lost racks ends with an error that names them, once, and refuses what was not answered."""
    racks = {"a": FakeRack("a", at_once=False), "b": FakeRack("b", at_once=False)}
    session = opened(racks)
    session.load(MODEL)
    wait(lambda: all_serve(session))
    racks["a"].error = LOST
    racks["a"].die()
    futures = [session.submit(number) for number in range(4)]
    wait(lambda: session.racks[0].state == "lost" and racks["b"].waiting == 2)
    with pytest.raises(CleaningUnproven, match="on a was"):
        session.close()
    session.close()
    for future in futures:
        with pytest.raises(HeteeError):
            future.result(1)
    with pytest.raises(HeteeError, match="closed"):
        session.submit(1)


def test_a_result_is_a_value(opened: Open) -> None:
    """Results compare by what they are, not by the session that they came in."""
    session = opened({"a": FakeRack("a")})
    session.load(MODEL)
    result = session.infer(np.float32(1))
    assert "session" not in repr(result)
    assert result.rack == "a"
