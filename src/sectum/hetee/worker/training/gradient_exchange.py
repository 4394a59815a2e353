"""Exchanges gradients with the workers that train the same job: seals its own, opens and averages those of all."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from sectum.hetee.channel.secret import Secret
from sectum.hetee.data_plane.messages import Work
from sectum.hetee.errors import HeteeError
from sectum.hetee.training.exchange import BLOCK_BYTES, SEALED_MORE, BlockPlace, Membership, blocks_of_part
from sectum.hetee.wire.messages import decode, encode
from sectum.hetee.worker.models import batch_refused

Vector = NDArray[np.float32]
_SALT_BYTES = 32
_LABEL = b"sectum-hetee/1 gradients "


class Pending(NamedTuple):
    """What a step changes, once it is the average of all members.

    Attributes:
        vector: gradients, statistics and loss, one after the other.
        counts: integer statistics, by name; they are the same in all members.
        idle: parameters without a gradient, which a step leaves as they are.
    """

    vector: Vector
    counts: Mapping[str, NDArray[Any]]
    idle: frozenset[str] = frozenset()


_NOTHING = Pending(np.empty(0, np.float32), {})


def average(parts: Sequence[Vector], shares: Sequence[int]) -> Vector:
    """The mean of what all members give, weighted by their items, added up in the order of their ranks.

    Args:
        parts: an array of each member, all of the same length.
        shares: items of each member.
    """
    items = sum(shares)
    total = parts[0] * np.float32(shares[0] / items)
    for part, share in zip(parts[1:], shares[1:], strict=True):
        total += part * np.float32(share / items)
    return total


class GradientExchange:
    """The membership of this worker, and the step in which gradients are exchanged.

    A key seals the blocks of one sender in one membership. It is derived from the key of the membership and from a salt
    that the sender has drawn. The nonce is the round and the number of the block. Rounds only grow, and a block is
    sealed once, so no nonce comes twice, also if a client gave the same key again.

    Args:
        membership: an encoded `Membership`.
        job: SHA-256 of the job.

    Raises:
        WorkRefused: ``INPUT_REFUSED``, the membership is malformed.
    """

    def __init__(self, membership: bytes, job: bytes) -> None:
        try:
            told = decode(membership, Membership)
        except HeteeError as error:
            raise batch_refused(error.detail) from None
        if told.rank >= told.count:
            raise batch_refused(f"member {told.rank} of {told.count}")
        self.rank, self.count = told.rank, told.count
        self._key, self._job = Secret(told.key), job
        self._salts: list[bytes] = [b""] * told.count
        self._ciphers: list[AESGCM | None] = [None] * told.count
        self._salts[self.rank] = secrets.token_bytes(_SALT_BYTES)
        self._round = 0
        self._work: Work | None = None
        self._pending = _NOTHING
        self._sealed = self._added = 0

    def check(self, work: Work, items: int) -> None:
        """Check that a batch is this worker's part of a step.

        Raises:
            WorkRefused: ``INPUT_REFUSED``.
        """
        if len(work.shares) != self.count or not all(work.shares) or work.shares[self.rank] != items:
            detail = f"a batch of {items} items for member {self.rank} of {self.count} with shares {list(work.shares)}"
            raise batch_refused(detail[:500])
        if work.round <= self._round:
            raise batch_refused(f"round {work.round} of a membership that has had round {self._round}")

    def begin(self, work: Work, pending: Pending) -> None:
        """Take the result of this worker's part; what was left of an earlier round is dropped."""
        self._round, self._work, self._pending = work.round, work, pending
        self._sealed = self._added = 0

    @property
    def blocks(self) -> int:
        """The number of blocks of each member."""
        return -(-self._pending.vector.nbytes // BLOCK_BYTES)

    def sealed(self, work: Work) -> NDArray[np.uint8]:
        """The next part of this worker's sealed blocks. Each is given once.

        Raises:
            WorkRefused: ``INPUT_REFUSED``, it is not the part that is due.
        """
        self._due(work, self._sealed)
        first, last = self._part(work)
        out = bytearray()
        for block in range(first, last):
            out += self._salts[self.rank]
            own = self._slice(block).view(np.uint8).data
            out += self._cipher(self.rank).encrypt(self._nonce(block), own, self._place(self.rank, block))
        self._sealed = last
        return np.frombuffer(out, np.uint8)

    def add(self, work: Work, given: NDArray[np.uint8]) -> Pending | None:
        """Open the next part of the blocks of all other members, and average them with this worker's own.

        Args:
            work: what the batch asks for.
            given: the sealed blocks of each other member in the order of ranks.

        Returns:
            The average, when the last part was added; else None.

        Raises:
            WorkRefused: ``INPUT_REFUSED``, it is not the part that is due, or a block is not authentic; the round is
                over.
        """
        try:
            self._due(work, self._added)
            first, last = self._part(work)
            if last > self._sealed:
                raise batch_refused("blocks of others came before this worker's own were asked for")
            self._average(first, last, np.ascontiguousarray(given).data.cast("B"))
        except HeteeError:
            self.drop()
            raise
        self._added = last
        if last < self.blocks:
            return None
        found = self._pending
        self.drop()
        return found

    def drop(self) -> None:
        """End the round, if there is one."""
        self._work, self._pending = None, _NOTHING
        self._sealed = self._added = 0

    def _average(self, first: int, last: int, given: memoryview) -> None:
        shares = self._round_of().shares
        sizes = [self._slice(block).nbytes + SEALED_MORE for block in range(first, last)]
        if len(given) != (self.count - 1) * sum(sizes):
            raise batch_refused(f"{len(given)} bytes of blocks, expected {(self.count - 1) * sum(sizes)}")
        others = [rank for rank in range(self.count) if rank != self.rank]
        begins = {rank: number * sum(sizes) for number, rank in enumerate(others)}
        at = 0
        for block, size in zip(range(first, last), sizes, strict=True):
            parts = []
            for rank in range(self.count):
                if rank == self.rank:
                    parts.append(self._slice(block))
                else:
                    begin = begins[rank] + at
                    parts.append(self._opened(rank, block, given[begin : begin + size]))
            self._slice(block)[:] = average(parts, shares)  # it was sealed, and is not read again
            at += size

    def _opened(self, rank: int, block: int, given: memoryview) -> Vector:
        salt, known = bytes(given[:_SALT_BYTES]), self._salts[rank]
        cipher = self._cipher(rank) if known == salt else self._derived(rank, salt)
        try:
            opened = cipher.decrypt(self._nonce(block), given[_SALT_BYTES:], self._place(rank, block))
        except InvalidTag:
            opened = None
        if opened is None or known not in (b"", salt):  # a sender keeps its salt
            detail = f"block {block} of member {rank} is not authentic: it was changed, or belongs elsewhere"
            raise batch_refused(detail)
        self._salts[rank], self._ciphers[rank] = salt, cipher
        return np.frombuffer(opened, np.float32)

    def _due(self, work: Work, at: int) -> None:
        known = self._work
        if known is None or (work.step, work.round, work.shares) != (known.step, known.round, known.shares):
            raise batch_refused(f"step {work.step}, round {work.round} is not the one whose gradients are exchanged")
        if work.begin != at or at >= self.blocks:
            raise batch_refused(f"a part from block {work.begin} on, expected {at} of {self.blocks}")

    def _part(self, work: Work) -> tuple[int, int]:
        return work.begin, min(work.begin + blocks_of_part(self.count), self.blocks)

    def _slice(self, block: int) -> Vector:
        items = BLOCK_BYTES // 4
        return self._pending.vector[block * items : (block + 1) * items]

    def _round_of(self) -> Work:
        assert self._work is not None
        return self._work

    def _nonce(self, block: int) -> bytes:
        return self._round_of().round.to_bytes(4, "big") + block.to_bytes(8, "big")

    def _place(self, rank: int, block: int) -> bytes:
        work = self._round_of()
        return encode(BlockPlace(self._job, work.step, work.round, work.shares, rank, block, self.blocks))

    def _cipher(self, rank: int) -> AESGCM:
        found = self._ciphers[rank]
        if found is None:
            found = self._ciphers[rank] = self._derived(rank, self._salts[rank])
        return found

    def _derived(self, rank: int, salt: bytes) -> AESGCM:
        derivation = HKDF(SHA256(), 32, salt, _LABEL + rank.to_bytes(2, "big"))
        with self._key.reveal() as key:
            return AESGCM(derivation.derive(key))
