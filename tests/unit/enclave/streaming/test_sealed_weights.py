"""Sealed weights open where they were sealed, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from sectum.enclave.streaming.sealed_weights import BLOCK_BYTES, TAG_BYTES, SealedWeights
from sectum.enclave.streaming.tampering import WeightsTamperedError

SIZES = (3 * BLOCK_BYTES, 0, 2 * BLOCK_BYTES + 100, 3 * BLOCK_BYTES)
SEALED_BLOCK = BLOCK_BYTES + TAG_BYTES


def contents() -> list[np.ndarray]:
    """Bytes of each stage."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in SIZES]


@pytest.fixture
def sealed() -> SealedWeights:
    """All stages, sealed."""
    weights = SealedWeights(SIZES)
    for stage, content in enumerate(contents()):
        weights.seal(stage, content)
    return weights


def opened(weights: SealedWeights, stage: int) -> np.ndarray:
    """A stage's bytes."""
    plain = np.zeros(SIZES[stage], np.uint8)
    weights.open(stage, plain)
    return plain


def test_stages_open_to_what_was_sealed(sealed: SealedWeights) -> None:
    """Every stage opens to its bytes, again and again and in any order."""
    for stage in (3, 0, 2, 1, 0, 3):
        assert np.array_equal(opened(sealed, stage), contents()[stage])


def test_untrusted_memory_holds_no_plain_weights(sealed: SealedWeights) -> None:
    """No 16 bytes of the weights can be read outside."""
    outside = bytes(sealed._memory)
    assert len(outside) == sealed.n_bytes
    assert not any(content[start : start + 16].tobytes() in outside for content in contents() for start in
                   range(0, len(content), BLOCK_BYTES // 2))  # fmt: skip


@pytest.mark.parametrize("place", [0, BLOCK_BYTES - 1, BLOCK_BYTES, SEALED_BLOCK + 7, 3 * SEALED_BLOCK - 1])
def test_a_changed_byte_is_found(sealed: SealedWeights, place: int) -> None:
    """A byte that was changed, in the ciphertext or in a tag, in any block, ends the opening."""
    sealed._memory[place] ^= 1
    with pytest.raises(WeightsTamperedError, match="stage 0"):
        opened(sealed, 0)


def test_blocks_do_not_change_places(sealed: SealedWeights) -> None:
    """A block opens neither at another position of its stage nor at its position of another stage."""
    memory = sealed._memory
    first, second = bytes(memory[:SEALED_BLOCK]), bytes(memory[SEALED_BLOCK : 2 * SEALED_BLOCK])
    memory[:SEALED_BLOCK], memory[SEALED_BLOCK : 2 * SEALED_BLOCK] = second, first
    with pytest.raises(WeightsTamperedError):
        opened(sealed, 0)
    memory[:SEALED_BLOCK] = bytes(memory[-3 * SEALED_BLOCK : -2 * SEALED_BLOCK])  # of a stage of the same size
    with pytest.raises(WeightsTamperedError):
        opened(sealed, 0)


def test_blocks_of_another_run_are_refused(sealed: SealedWeights) -> None:
    """The same weights, sealed for the same places in another run, do not open in this one."""
    other = SealedWeights(SIZES)
    for stage, content in enumerate(contents()):
        other.seal(stage, content)
    sealed._memory[:] = other._memory[:]
    with pytest.raises(WeightsTamperedError):
        opened(sealed, 0)


def test_cut_off_weights_are_refused(sealed: SealedWeights) -> None:
    """Memory that was emptied does not open."""
    sealed._memory[-SEALED_BLOCK:] = bytes(SEALED_BLOCK)
    with pytest.raises(WeightsTamperedError, match="block 2 of the sealed weights of stage 3"):
        opened(sealed, 3)


def test_a_stage_is_sealed_once(sealed: SealedWeights) -> None:
    """Nothing is sealed twice at a place: there is never an older block to put back."""
    with pytest.raises(ValueError, match="sealed before"):
        sealed.seal(0, contents()[0])


def test_no_two_blocks_share_nonce_or_place(sealed: SealedWeights) -> None:
    """Every block has a nonce and associated data of its own."""
    blocks = [block for stage in sealed._stages for block in stage]
    assert len({block.number for block in blocks}) == len({block.place for block in blocks}) == len(blocks) == 9
