"""The exchange of gradients between workers: equal averages everywhere, and blocks that fit one place only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sectum.hetee.data_plane.messages import Work
from sectum.hetee.errors import Refusal, WorkRefused
from sectum.hetee.training import exchange as shared
from sectum.hetee.training.exchange import Membership, blocks_of_part, shares_of
from sectum.hetee.wire.messages import encode
from sectum.hetee.worker.training import gradient_exchange
from sectum.hetee.worker.training.gradient_exchange import GradientExchange, Pending, average

KEY, JOB = b"k" * 32, b"j" * 32
BLOCK = 64
"""Bytes in a block, in these tests."""


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few numbers."""
    monkeypatch.setattr(gradient_exchange, "BLOCK_BYTES", BLOCK)


def member(rank: int, count: int = 2, key: bytes = KEY, job: bytes = JOB) -> GradientExchange:
    """A worker of a membership."""
    return GradientExchange(encode(Membership(key=key, rank=rank, count=count)), job)


def work(step: int = 1, round_: int = 1, shares: tuple[int, ...] = (3, 2), begin: int = 0) -> Work:
    """What batches of a step say."""
    return Work(kind="gradients", step=step, begin=begin, round=round_, shares=shares)


def vector(seed: int, numbers: int) -> np.ndarray:
    """Gradients of a worker."""
    return np.random.default_rng(seed).standard_normal(numbers).astype(np.float32)


def begun(count: int, numbers: int, at: Work) -> list[GradientExchange]:
    """Workers that have computed their parts of a step."""
    members = [member(rank, count) for rank in range(count)]
    for rank, one in enumerate(members):
        one.check(at, at.shares[rank])
        one.begin(at, Pending(vector(rank, numbers), {}))
    return members


def exchanged(members: list[GradientExchange], at: Work) -> list[np.ndarray]:
    """The averages of all workers after the blocks were passed on."""
    found: list[Pending | None] = []
    for begin in range(0, members[0].blocks, blocks_of_part(len(members))):
        part = replace(at, begin=begin)
        sealed = [one.sealed(part) for one in members]
        found = [
            one.add(part, np.concatenate([sealed[other] for other in range(len(members)) if other != rank]))
            for rank, one in enumerate(members)
        ]
    assert all(one is not None for one in found)
    return [one.vector for one in found if one is not None]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.integers(1, 400))
def test_all_workers_get_the_same_average(shares: list[int], numbers: int) -> None:
    """Whatever the shares and the size: all averages are equal bit for bit, and are the mean weighted by items."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gradient_exchange, "BLOCK_BYTES", BLOCK)
        at = work(shares=tuple(shares))
        found = exchanged(begun(len(shares), numbers, at), at)
    assert all(np.array_equal(found[0], other) for other in found[1:])
    exact = sum(vector(rank, numbers).astype(np.float64) * share for rank, share in enumerate(shares)) / sum(shares)
    np.testing.assert_allclose(found[0], exact, rtol=1e-5, atol=1e-6)


def test_the_average_keeps_the_order_of_ranks() -> None:
    """Numbers whose sum depends on the order are added up from the first rank to the last."""
    parts = [np.array([value], np.float32) for value in (1e8, 1.0, -1e8)]
    expected = (np.float32(1e8 / 3) + np.float32(1 / 3)) + np.float32(-1e8 / 3)
    np.testing.assert_allclose(average(parts, (1, 1, 1)), [expected], atol=4)
    assert np.array_equal(parts[0], [np.float32(1e8)])


@given(st.integers(2, 10_000), st.integers(2, 16))
def test_a_batch_is_divided_as_equally_as_can_be(items: int, count: int) -> None:
    """The shares add up to the batch, and differ by at most one item."""
    shares = shares_of(items, count)
    assert sum(shares) == items
    assert max(shares) - min(shares) <= 1


def of_another_step() -> np.ndarray:
    """The blocks of worker 1 for step 2."""
    return begun(2, 40, work(step=2, round_=2))[1].sealed(work(step=2, round_=2))


def of_another_job() -> np.ndarray:
    """The blocks that a worker with the same key makes for another job."""
    one = member(1, job=b"o" * 32)
    one.begin(work(), Pending(vector(1, 40), {}))
    return one.sealed(work())


def of_an_outsider() -> np.ndarray:
    """The blocks of a worker that has another key."""
    one = member(1, key=b"x" * 32)
    one.begin(work(), Pending(vector(1, 40), {}))
    return one.sealed(work())


def changed_at(at: int) -> Callable[[np.ndarray], np.ndarray]:
    """Changes one bit."""

    def change(sealed: np.ndarray) -> np.ndarray:
        other = sealed.copy()
        other[at] ^= 1
        return other

    return change


def swapped(sealed: np.ndarray) -> np.ndarray:
    """The first two blocks in each other's place."""
    size = BLOCK + shared.SEALED_MORE
    return np.concatenate([sealed[size : 2 * size], sealed[:size], sealed[2 * size :]])


ATTACKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "salt": changed_at(0),
    "ciphertext": changed_at(40),
    "tag": changed_at(-1),
    "swapped": swapped,
    "cut": lambda sealed: sealed[:-1],
    "longer": lambda sealed: np.append(sealed, np.uint8(0)),
    "without": lambda sealed: sealed[:0],
    "another step": lambda _sealed: of_another_step(),
    "another job": lambda _sealed: of_another_job(),
    "an outsider": lambda _sealed: of_an_outsider(),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_blocks_that_do_not_belong_there_end_the_round(attack: str) -> None:
    """Changed, swapped, cut, replayed and foreign blocks are refused; the next round goes on as if nothing was."""
    members = begun(2, 40, work())
    sealed = [one.sealed(work()) for one in members]
    with pytest.raises(WorkRefused) as caught:
        members[0].add(work(), ATTACKS[attack](sealed[1]))
    assert caught.value.code is Refusal.INPUT_REFUSED
    with pytest.raises(WorkRefused):
        members[0].add(work(), sealed[1])
    again = work(round_=2)
    for rank, one in enumerate(members):
        one.begin(again, Pending(vector(rank, 40), {}))
    assert np.array_equal(*exchanged(members, again))


def test_a_worker_s_own_blocks_are_not_those_of_another() -> None:
    """Blocks that come back to their sender are refused."""
    one, _ = begun(2, 40, work())
    with pytest.raises(WorkRefused, match="not authentic"):
        one.add(work(), one.sealed(work()))


def test_blocks_of_two_workers_do_not_stand_for_each_other() -> None:
    """The blocks of two other workers in each other's place are refused."""
    at = work(shares=(1, 1, 1))
    members = begun(3, 40, at)
    sealed = [one.sealed(at) for one in members]
    with pytest.raises(WorkRefused, match="member 1"):
        members[0].add(at, np.concatenate([sealed[2], sealed[1]]))


def test_blocks_of_an_earlier_round_are_not_taken_for_those_of_a_later() -> None:
    """When a step is tried again, the blocks of the first attempt are refused."""
    members = begun(2, 40, work())
    first = members[1].sealed(work())
    again = work(round_=2)
    for one in members:
        one.begin(again, Pending(vector(7, 40), {}))
        one.sealed(again)
    with pytest.raises(WorkRefused, match="not authentic"):
        members[0].add(again, first)


def test_the_same_numbers_are_never_sealed_alike() -> None:
    """Equal gradients of two rounds, and of two workers with the same key given twice, have no equal blocks."""
    seen: list[bytes] = []
    for _ in range(2):
        one = member(1)
        for number in (1, 2):
            one.begin(work(round_=number), Pending(vector(1, 16), {}))
            seen.append(one.sealed(work(round_=number)).tobytes()[32:])
    assert len(set(seen)) == 4


@pytest.mark.parametrize(
    ("at", "items"),
    [
        (work(), 2),
        (work(shares=(3, 2, 1)), 3),
        (work(shares=(3, 0)), 3),
        (work(shares=()), 3),
        (work(round_=0), 3),
        (work(round_=1), 3),
    ],
)
def test_a_part_that_is_not_due_is_refused(at: Work, items: int) -> None:
    """Items that are not this worker's share, members without items, and rounds that were are refused."""
    one, _ = begun(2, 40, work())
    with pytest.raises(WorkRefused):
        one.check(replace(at, round=at.round + 1) if at != work() and at.round and at.shares != (3, 2) else at, items)


def test_blocks_are_given_and_taken_once_and_in_order() -> None:
    """A part that is asked for twice, or before its turn, and an average before the own blocks, are refused."""
    at = work()
    one, other = begun(2, 40 * BLOCK, at)
    ahead = other.sealed(at)
    with pytest.raises(WorkRefused, match="before this worker's own"):
        one.add(at, ahead)
    one, other = begun(2, 40 * BLOCK, at)
    one.sealed(at)
    with pytest.raises(WorkRefused, match="expected 16"):
        one.sealed(at)
    with pytest.raises(WorkRefused, match="expected 0"):
        one.add(replace(at, begin=16), ahead)


@pytest.mark.parametrize("content", [b"", b"\x80", encode(Membership(key=KEY, rank=2, count=2))])
def test_what_is_no_membership_is_refused(content: bytes) -> None:
    """A malformed membership, or a member that it does not have, is refused."""
    with pytest.raises(WorkRefused):
        GradientExchange(content, JOB)


def test_a_key_is_in_no_text() -> None:
    """Neither a membership nor an exchange shows its key."""
    told = Membership(key=KEY, rank=0, count=2)
    assert "kkk" not in f"{told!r} {told} {member(0)!r} {vars(member(0))}"
