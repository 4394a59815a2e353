"""Batches' memory is reused, bounded, never shared, and zero at the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sectum.hetee.worker.buffers import Buffers

MIB = 1 << 20


def test_a_buffer_is_used_again() -> None:
    """A batch of the same size reuses the buffer of the last one."""
    buffers = Buffers(8 * MIB)
    first = buffers.take(MIB)
    first[:4] = b"left"
    buffers.give_back(first)
    assert bytes(buffers.take(MIB - 5)[:4]) == b"left"


def test_the_buffer_that_was_given_back_last_is_used_first() -> None:
    """Of several buffers of a size the next batch gets the one whose memory is most likely still in a cache."""
    buffers = Buffers(8 * MIB)
    views = [buffers.take(MIB) for _ in range(3)]
    for number in (2, 0, 1):
        views[number][:1] = bytes([number])
        buffers.give_back(views[number])
    assert [buffers.take(MIB)[0] for _ in range(3)] == [1, 0, 2]


@given(st.lists(st.tuples(st.integers(0, 3 * MIB), st.booleans()), max_size=20))
def test_no_two_batches_share_memory(steps: list[tuple[int, bool]]) -> None:
    """Buffers in use hold what was written to them, whatever is taken and given back meanwhile."""
    buffers, used = Buffers(4 * MIB), {}
    for number, (n_bytes, back) in enumerate(steps):
        view = buffers.take(n_bytes)
        assert len(view) == n_bytes
        view[:] = bytes([number]) * n_bytes
        used[number] = view
        if back:
            buffers.give_back(used.pop(min(used)))
        for owner, held in used.items():
            assert not held or (held[0], held[-1]) == (owner, owner)


def test_what_was_used_at_once_is_not_all_kept() -> None:
    """Batches may need more memory at a time than is kept after them."""
    buffers = Buffers(4 * MIB)
    for view in [buffers.take(MIB) for _ in range(10)]:
        buffers.give_back(view)
    assert buffers.wipe() == 4 * MIB


def test_what_is_kept_is_bounded() -> None:
    """Buffers that nobody uses are let go before the limit is passed."""
    buffers = Buffers(4 * MIB)
    for n_bytes in (3 * MIB, 100, 2 * MIB, MIB):
        buffers.give_back(buffers.take(n_bytes))
    assert buffers.wipe() <= 4 * MIB


def test_wiping_overwrites_everything() -> None:
    """After the end nothing of a batch is left, in buffers that are free and in those that are used."""
    buffers = Buffers(8 * MIB)
    views = [buffers.take(MIB), buffers.take(MIB)]
    for view in views:
        view[:] = b"x" * MIB
    buffers.give_back(views[0])
    assert buffers.wipe() == 2 * MIB
    assert not any(map(any, views))
