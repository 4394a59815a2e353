"""What client and workers share about the exchange of gradients: the membership, and how gradients are cut."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from sectum.hetee.data_plane.messages import Slot
from sectum.hetee.wire.messages import Message

MOST_MEMBERS = 16
BLOCK_BYTES = 4 << 20
"""Gradients in one sealed block; the last block of a step may be smaller."""
SEALED_MORE = 32 + 16
"""Bytes that a sealed block has more than its gradients: the salt of its sender, and a tag."""
_PART_BLOCKS = 16
MEMBERSHIP, BLOCKS, GRADIENTS = "membership", "blocks", "gradients"
GIVEN = (
    Slot(name=MEMBERSHIP, dtype="uint8", shape=("?",)),
    Slot(name=BLOCKS, dtype="uint8", shape=("?",)),
)
"""Inputs of batches that exchange gradients, beside the network's."""

Count = Annotated[int, Meta(ge=2, le=MOST_MEMBERS)]
Rank = Annotated[int, Meta(ge=0, lt=MOST_MEMBERS)]


class Membership(Message, frozen=True):
    """What the client gives to each worker that trains one job together with others.

    Attributes:
        key: 32 random bytes, the same for all members, and new for every membership.
        rank: number of this worker, from 0.
        count: number of workers.
    """

    key: Annotated[bytes, Meta(min_length=32, max_length=32)]
    rank: Rank
    count: Count

    def __repr__(self) -> str:
        return f"Membership({self.rank} of {self.count})"


class BlockPlace(Message, frozen=True):
    """Associated data of a sealed block: all that says which gradients it holds.

    Attributes:
        job: SHA-256 of the job.
        step: number of the step.
        round: number of the attempt, within the membership.
        shares: items of each member.
        rank: the sender.
        block: number of the block, from 0.
        blocks: number of the sender's blocks.
    """

    job: bytes
    step: int
    round: int
    shares: tuple[int, ...]
    rank: int
    block: int
    blocks: int


def blocks_of_part(count: int) -> int:
    """The number of blocks of each member in one batch: together at most 64 MiB for a worker."""
    return max(1, _PART_BLOCKS // (count - 1))


def shares_of(items: int, count: int) -> tuple[int, ...]:
    """The items of a batch that each member gets: as equal as can be, the first ones more."""
    return tuple(items // count + (rank < items % count) for rank in range(count))
