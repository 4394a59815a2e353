"""Gradients on their way between racks: whatever carries them can neither change, repeat, swap nor read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from hetee_hostile_host import HostileHost
from hetee_rack import Rack
from hetee_training import SGD
from sectum.hetee.client import Session
from sectum.hetee.client.pool import connect_pool
from sectum.hetee.client.small_networks import small_network
from sectum.hetee.client.training import Training
from sectum.hetee.data_plane.messages import Work
from sectum.hetee.errors import EvidenceRefused, HeteeError, Refusal, WorkRefused
from sectum.hetee.training.exchange import BLOCKS, MEMBERSHIP, SEALED_MORE, Membership
from sectum.hetee.training.job import TrainingJob
from sectum.hetee.wire.messages import encode

pytestmark = pytest.mark.slow

pytest.importorskip("torch", reason="PyTorch is an extra")

NETWORK = small_network("mlp", (3, 8, 8), 3)
JOB = TrainingJob(optimiser=SGD, onnx=(bytes(32),), name="together", state_every=1)
KEY = bytes(range(32))
ITEMS = 4


@pytest.fixture(scope="module")
def racks(training_racks: tuple[Rack, Rack]) -> tuple[Rack, Rack]:
    """Two racks whose workers can train."""
    return training_racks


@pytest.fixture(scope="module")
def sessions(racks: tuple[Rack, Rack]) -> Iterator[tuple[Session, Session]]:
    """A session on each: each worker that starts imports PyTorch, so tests make pairs of jobs in the same enclaves."""
    with racks[0].connect() as first, racks[1].connect() as second:
        yield first, second


class Pair:
    """Two workers that train one job together, and a test that carries their gradients."""

    def __init__(self, trainings: list[Training], keys: tuple[bytes, bytes] = (KEY, KEY)) -> None:
        self.trainings = trainings
        for rank, key in enumerate(keys):
            told = np.frombuffer(encode(Membership(key=key, rank=rank, count=2)), np.uint8)
            trainings[rank].send(Work(kind="join", step=0), {MEMBERSHIP: told}).result()

    def gradients(self, step: int, round_: int) -> list[np.ndarray]:
        """What each has sealed of a step."""
        about: Any = {"step": step, "round": round_, "shares": (ITEMS, ITEMS)}
        found = []
        for rank, training in enumerate(self.trainings):
            rng = np.random.default_rng((step, rank))
            batch = training.batch(rng.standard_normal((ITEMS, 3, 8, 8), np.float32), rng.integers(0, 3, ITEMS))
            found.append(training.send(Work(kind="gradients", **about), batch).result().outputs["gradients"])
        return found

    def apply(self, rank: int, blocks: np.ndarray, step: int, round_: int) -> tuple[float, bytes]:
        """Loss and state of one after it got the blocks of the other."""
        work = Work(kind="apply", step=step, round=round_, shares=(ITEMS, ITEMS))
        outputs = self.trainings[rank].send(work, {BLOCKS: blocks}).result().outputs
        self.trainings[rank].advance(step)
        return float(outputs["loss"]), outputs["state"].tobytes()

    def state(self, rank: int) -> bytes:
        """The digest of the state of one."""
        return self.trainings[rank].checkpoint().sha256


@pytest.fixture
def pair(sessions: tuple[Session, Session]) -> Iterator[Callable[..., Pair]]:
    """Makes pairs of new jobs, one on each rack."""
    made: list[Training] = []

    def end() -> None:
        for training in made:
            training.end()
        made.clear()

    def make(*keys: bytes) -> Pair:
        end()
        made.extend(session.train(JOB, onnx=NETWORK) for session in sessions)
        return Pair(made, (keys[0], keys[1]) if keys else (KEY, KEY))

    yield make
    end()


def bit(at: int) -> Callable[[np.ndarray], np.ndarray]:
    """Changes one bit."""

    def change(blocks: np.ndarray) -> np.ndarray:
        other = blocks.copy()
        other[at] ^= 1
        return other

    return change


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "salt": bit(5),
    "ciphertext": bit(1000),
    "tag": bit(-1),
    "cut": lambda blocks: blocks[:-1],
    "longer": lambda blocks: np.append(blocks, np.uint8(0)),
    "zeros": np.zeros_like,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_block_ends_the_step(pair: Callable[..., Pair], change: str) -> None:
    """A block that a relay has changed is refused, the state stays, and the step can be done again."""
    two = pair()
    before = two.state(0)
    first, second = two.gradients(1, 1)
    with pytest.raises(WorkRefused) as caught:
        two.apply(0, CHANGES[change](second), 1, 1)
    assert caught.value.code is Refusal.INPUT_REFUSED
    assert two.state(0) == before
    with pytest.raises(WorkRefused):  # the round is over, also with what was sent
        two.apply(0, second, 1, 1)
    first, second = two.gradients(1, 2)
    assert two.apply(0, second, 1, 2) == two.apply(1, first, 1, 2)
    assert two.state(0) == two.state(1) != before


def test_a_replayed_or_returned_block_ends_the_step(pair: Callable[..., Pair]) -> None:
    """Blocks of an earlier step or attempt, and a worker's own, are refused."""
    two = pair()
    first, second = two.gradients(1, 1)
    assert two.apply(0, second, 1, 1) == two.apply(1, first, 1, 1)
    before, attempt = two.state(0), two.gradients(2, 2)
    own, _ = two.gradients(2, 3)
    for blocks, round_ in ((second, 3), (attempt[1], 4), (own, 5)):
        if round_ > 3:
            two.gradients(2, round_)
        with pytest.raises(WorkRefused, match="not authentic"):
            two.apply(0, blocks, 2, round_)
        assert two.state(0) == before
    first, second = two.gradients(2, 6)
    assert two.apply(0, second, 2, 6) == two.apply(1, first, 2, 6)


def test_blocks_of_another_membership_are_refused(pair: Callable[..., Pair]) -> None:
    """After workers have joined anew, the blocks of before are refused; so are those under another key."""
    _, before = pair().gradients(1, 1)
    two = pair(b"n" * 32, b"n" * 32)
    two.gradients(1, 1)
    with pytest.raises(WorkRefused, match="not authentic"):
        two.apply(0, before, 1, 1)
    strangers = pair(KEY, b"x" * 32)
    _, foreign = strangers.gradients(1, 1)
    with pytest.raises(WorkRefused, match="not authentic"):
        strangers.apply(0, foreign, 1, 1)


def test_what_is_carried_shows_no_gradient(pair: Callable[..., Pair]) -> None:
    """Blocks have the size of the gradients and look random: a second attempt of the same step has no equal bytes."""
    two = pair()
    once, again = two.gradients(1, 1)[1], two.gradients(1, 2)[1]
    assert len(once) == len(again)
    assert len(once) % 4 == SEALED_MORE % 4
    body = slice(32, None)
    assert np.mean(once[body] == again[body]) < 0.02
    assert len(np.unique(once)) == 256


def test_a_rack_that_was_not_verified_gets_no_key(racks: tuple[Rack, Rack]) -> None:
    """If the policy accepts one rack only, no worker is asked for gradients, and no key leaves the client."""
    sent: list[bytes] = []
    with HostileHost(racks[1].port) as way:
        only = racks[0].policy
        session = connect_pool([racks[0].url, way.url], only)
        with pytest.MonkeyPatch.context() as patched:
            made = Membership

            def recorded(**fields: Any) -> Membership:
                sent.append(fields["key"])
                return made(**fields)

            patched.setattr("sectum.hetee.client.pool.team.Membership", recorded)
            with pytest.raises(HeteeError) as caught:
                session.train(JOB, onnx=NETWORK, racks=2)
            assert isinstance(caught.value, EvidenceRefused)
            assert sent == []
            session.close()
            both = msgspec.structs.replace(only, roots=(*only.roots, *racks[1].policy.roots))
            with connect_pool([rack.url for rack in racks], both) as trusted:
                trusted.train(JOB, onnx=NETWORK, racks=2).end()
        assert len(sent) == 2
        assert len(set(sent)) == 1
        # One handshake, up to the evidence: the identity of the client comes after that.
        assert len([seen for seen in way.seen if seen.direction == "up"]) == 1
