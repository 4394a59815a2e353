"""Training over several racks: a lost rack costs no step, repeats none for the owner, and changes no loss."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from hetee_fake_racks import LOST, FakeConnector, FakeRack
from hetee_training import SMALL
from sectum.hetee.client.pool import PoolSession, PoolTraining
from sectum.hetee.errors import CleaningUnproven, HeteeError, Refusal, WorkRefused, refusal

X = np.zeros((2, 3, 4, 4), np.float32)
Begin = Callable[..., PoolTraining]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Racks are tried again after milliseconds."""
    monkeypatch.setattr("sectum.hetee.client.pool.training_racks._PAUSE_S", 0.002)


@pytest.fixture
def begun() -> Iterator[Begin]:
    """Begins trainings over fake racks, and ends them."""
    sessions: list[PoolSession] = []

    def begin(racks: dict[str, FakeRack], every: int = 5, wait_s: float = 5.0, together: int = 1) -> PoolTraining:
        sessions.append(PoolSession(list(racks), FakeConnector(racks, wait_s=wait_s)))  # type: ignore[arg-type]
        return sessions[-1].train(SMALL, checkpoint_every=every, racks=together)

    yield begin
    for session in sessions:
        try:
            session.close(0)
        except HeteeError:
            continue


def labels(number: int) -> np.ndarray[Any, Any]:
    return np.array([number, 3 * number])


def alone(count: int) -> list[float]:
    """The losses of the same steps without interruption."""
    state, found = 0, []
    for number in range(count):
        state = (31 * state + int(labels(number).sum())) % 1_000_003
        found.append(float(state))
    return found


def test_a_lost_rack_costs_no_step(begun: Begin) -> None:
    """Another rack goes on from the last checkpoint with the same losses, and says so."""
    racks = {name: FakeRack(name) for name in ("a", "b")}
    training = begun(racks)
    losses = [training.step(X, labels(number)).loss for number in range(7)]
    racks["a"].die()
    losses += [training.step(X, labels(number)).loss for number in range(7, 12)]
    assert losses == alone(12)
    assert training.differing == []
    (move,) = training.moves
    assert (move.lost, move.rack, move.step) == ("a", "b", 5)
    assert training.done == 12
    assert {rack.url: (rack.answered, rack.state) for rack in training.racks} == {"a": (7, "lost"), "b": (5, "serving")}


def test_steps_in_flight_are_answered_by_the_next_rack(begun: Begin) -> None:
    """Steps that a rack had not answered get their losses from the next one, each once and in order."""
    racks = {"a": FakeRack("a", at_once=False), "b": FakeRack("b")}
    training = begun(racks, every=50)
    steps = [training.submit(X, labels(number)) for number in range(4)]
    racks["a"].sessions[0].answer(signed=False)  # losses without receipts are no answers
    racks["a"].die()
    assert [step.result(10).loss for step in steps] == alone(4)
    assert [step.result().number for step in steps] == [1, 2, 3, 4]
    assert {step.result().result.rack for step in steps} == {"b"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(8))
def test_random_deaths_change_no_loss(begun: Begin, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Racks that die at random moments change neither losses nor their order, and no step is answered twice."""
    monkeypatch.setattr("sectum.hetee.client.pool.training.MOST_MOVES", 1000)
    rng = random.Random(seed)
    racks = {name: FakeRack(name) for name in ("a", "b", "c")}
    training = begun(racks, every=4)
    answered: list[int] = []
    ended = threading.Event()

    def die() -> None:
        while not ended.wait(rng.random() * 0.01):
            rng.choice(list(racks.values())).die()

    thread = threading.Thread(target=die)
    thread.start()
    try:
        steps = []
        for number in range(40):
            steps.append(training.submit(X, labels(number)))
            steps[-1].add_done_callback(lambda _step, number=number: answered.append(number))
            time.sleep(rng.random() * 0.002)
        losses = [step.result(10).loss for step in steps]
        saved = training.checkpoint()
    finally:
        ended.set()
        thread.join()
    assert losses == alone(40)
    assert sorted(answered) == list(range(40))
    assert (int(saved.content), saved.step) == (int(losses[-1]), 40)
    assert training.differing == []


def test_a_rack_that_repeats_with_other_losses_is_told(begun: Begin) -> None:
    """The owner keeps the loss that she has, and learns which steps came out differently."""
    racks = {"a": FakeRack("a"), "b": FakeRack("b")}
    racks["b"].drift = 0.5
    training = begun(racks, every=50)
    losses = [training.step(X, labels(number)).loss for number in range(3)]
    racks["a"].die()
    assert training.step(X, labels(3)).loss == alone(4)[3] + 0.5
    assert losses == alone(3)
    assert training.differing == [1, 2, 3]


def test_a_step_that_is_wrong_is_refused_and_left_out(begun: Begin) -> None:
    """A refused step changes nothing, also not when the steps are repeated by another rack."""
    racks = {"a": FakeRack("a"), "b": FakeRack("b")}
    training = begun(racks, every=50)
    training.step(X, labels(0))
    with pytest.raises(WorkRefused):
        training.step(X, np.array([-1, 0]))
    training.step(X, labels(1))
    racks["a"].die()
    assert training.step(X, labels(2)).loss == alone(3)[2]


def test_without_a_rack_all_steps_get_the_reasons(begun: Begin) -> None:
    """When no rack is left, steps in flight and later ones fail with what was wrong with each rack."""
    rack = FakeRack("a", at_once=False)
    training = begun({"a": rack}, wait_s=0.05)
    step = training.submit(X, labels(0))
    rack.error = LOST
    rack.die()
    with pytest.raises(HeteeError, match="no rack of the pool trains: a: the connection"):
        step.result(10)
    with pytest.raises(HeteeError):
        training.submit(X, labels(1)).result(10)


def test_a_rack_that_is_not_trusted_does_not_train(begun: Begin) -> None:
    """Evidence that is refused is final, and the next rack is asked."""
    racks = {"false": FakeRack("false"), "b": FakeRack("b")}
    racks["false"].error = refusal(Refusal.NOT_GENUINE, "not chained to a trusted root")
    training = begun(racks)
    assert training.rack == "b"
    assert [rack.state for rack in training.racks] == ["refused", "serving"]
    with pytest.raises(HeteeError, match="not chained"):
        begun({"false": racks["false"]})


def test_the_end_names_racks_without_a_record() -> None:
    """A training that lost a rack ends with an error that names it."""
    racks = {"a": FakeRack("a"), "b": FakeRack("b")}
    session = PoolSession(["a", "b"], FakeConnector(racks))  # type: ignore[arg-type]
    training = session.train(SMALL)
    training.step(X, labels(0))
    racks["a"].die()
    training.step(X, labels(1))
    training.end()
    with pytest.raises(CleaningUnproven, match="on a was"):
        session.close()


def test_racks_that_train_together_do_one_step(begun: Begin) -> None:
    """Each rack gets a part of the batch, all answer for the step, and a lost one is replaced by another."""
    racks = {name: FakeRack(name) for name in ("a", "b", "c")}
    training = begun(racks, together=2)
    steps = [training.step(X, labels(number)) for number in range(7)]
    racks["b"].die()
    steps += [training.step(X, labels(number)) for number in range(7, 12)]
    assert [step.loss for step in steps] == alone(12)
    assert [step.number for step in steps] == list(range(1, 13))
    assert [[part.rack for part in (step.result, *step.others)] for step in (steps[0], steps[-1])] == [
        ["a", "b"],
        ["a", "c"],
    ]
    (move,) = training.moves
    assert (move.lost, move.rack, move.step) == ("b", "a, c", 5)
    assert training.checkpoint().step == 12
    assert {rack.url: rack.answered for rack in training.racks} == {"a": 12, "b": 7, "c": 5}


def test_racks_that_train_together_go_on_with_fewer(begun: Begin) -> None:
    """If no other rack is there, those that are left go on, each step answered once."""
    racks = {name: FakeRack(name) for name in ("a", "b")}
    training = begun(racks, together=2)
    losses = [training.step(X, labels(number)).loss for number in range(3)]
    racks["a"].error = LOST
    racks["a"].die()
    losses += [training.step(X, labels(number)).loss for number in range(3, 9)]
    assert losses == alone(9)
    assert training.rack == "b"


def test_racks_with_different_states_are_told(begun: Begin) -> None:
    """If one rack signs another loss than the others, the step fails with a clear error, and so does what follows."""
    racks = {name: FakeRack(name) for name in ("a", "b")}
    training = begun(racks, together=2)
    training.step(X, labels(0))
    racks["b"].drift = 0.5
    with pytest.raises(WorkRefused, match="after step 2 the racks have different losses") as caught:
        training.step(X, labels(1))
    assert caught.value.code is Refusal.DIGEST_DIFFERS
    with pytest.raises(WorkRefused, match="different losses"):
        training.step(X, labels(2))


def test_a_step_that_racks_refuse_is_left_out(begun: Begin) -> None:
    """A batch that one rack refuses, or that has no item for each, changes nothing on any of them."""
    racks = {name: FakeRack(name) for name in ("a", "b")}
    training = begun(racks, together=2)
    for wrong in (np.array([0, -1]), np.array([1])):
        with pytest.raises(WorkRefused):
            training.step(X[: len(wrong)], wrong)
    assert [training.step(X, labels(number)).loss for number in range(3)] == alone(3)


def test_inputs_that_cannot_be_divided_are_refused(begun: Begin) -> None:
    """A batch that has a length but no parts is refused at once, and the next step is done."""
    training = begun({name: FakeRack(name) for name in ("a", "b")}, together=2)
    with pytest.raises(WorkRefused, match="could not be divided"):
        training.submit(deque(X), labels(0)).result(5)  # type: ignore[arg-type]  # that is the mistake
    assert training.step(X, labels(0)).loss == alone(1)[0]


@pytest.mark.parametrize("count", [0, 3, 17])
def test_a_job_needs_as_many_racks_as_it_asks_for(begun: Begin, count: int) -> None:
    """A job that asks for more racks than there are, or for none, is refused."""
    with pytest.raises(HeteeError, match="racks"):
        begun({name: FakeRack(name) for name in ("a", "b")}, wait_s=0.01, together=count)
