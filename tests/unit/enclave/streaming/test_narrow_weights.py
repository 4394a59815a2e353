"""Weights as int8: how far they are from what they were, and that they are sealed as all others are."""

from __future__ import annotations

import numpy as np
import pytest

from sectum.enclave.streaming.narrow_weights import (
    COLUMNS,
    GROUP_BYTES,
    ROWS,
    narrowed,
    stored_bytes,
    widen_here,
    widened,
)
from sectum.enclave.streaming.sealed_weights import BLOCK_BYTES, TAG_BYTES, SealedWeights
from sectum.enclave.streaming.tampering import WeightsTamperedError

GROUPS = 5


def values() -> np.ndarray:
    """Weights whose columns are of very different size; one column of zeros, and one of the smallest numbers."""
    rng = np.random.default_rng(0)
    made = rng.standard_normal((GROUPS, ROWS, COLUMNS)).astype(np.float32)
    made *= np.logspace(-6, 6, COLUMNS, dtype=np.float32)
    made[:, :, 3] = 0
    made[1, :, 4] = np.float32(1e-45)
    return made


def there_and_back(made: np.ndarray) -> np.ndarray:
    """Weights after they were stored and widened."""
    plain = made.view(np.uint8).reshape(-1)
    stored = narrowed(plain)
    assert stored.nbytes == stored_bytes(plain.nbytes)
    out = np.empty_like(plain)
    widened(stored, out, widen_here)
    return out.view(np.float32).reshape(made.shape)


def test_each_value_is_off_by_half_a_step_of_its_column() -> None:
    """No value is further off than half a step, which is the largest of its column in its group over 127."""
    made = values()
    step = np.abs(made).max(axis=1, keepdims=True) / 127
    assert (np.abs(there_and_back(made) - made) <= 0.51 * step + 1e-44).all()


def test_what_is_stored_is_a_fixed_point() -> None:
    """Values that were widened are stored and widened to themselves, but for the last bit."""
    once = there_and_back(values())
    np.testing.assert_allclose(there_and_back(once), once, rtol=3e-7)


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
def test_values_that_are_not_finite_are_refused(wrong: float) -> None:
    """Weights with a value that is not finite are not stored as int8."""
    made = values()
    made[2, 5, 7] = wrong
    with pytest.raises(ValueError, match="not finite"):
        narrowed(made.view(np.uint8).reshape(-1))


SIZE = 2 * BLOCK_BYTES + 3 * GROUP_BYTES + 200
NARROW = [(64, 64 + BLOCK_BYTES + 2 * GROUP_BYTES), (BLOCK_BYTES + 3 * GROUP_BYTES, BLOCK_BYTES + 4 * GROUP_BYTES)]


def content() -> np.ndarray:
    """A stage's memory: floats, of which the first 64 bytes and the end are stored as they are."""
    rng = np.random.default_rng(1)
    return rng.standard_normal(SIZE // 4).astype(np.float32).view(np.uint8)


def sealed() -> SealedWeights:
    """Two stages with the same content, the first one stored as int8."""
    weights = SealedWeights([SIZE, SIZE], [NARROW, ()])
    for stage in range(2):
        weights.seal(stage, content())
    return weights


def test_only_what_was_said_is_stored_as_int8() -> None:
    """Within the ranges values are near what they were; everything else is equal, and a quarter is opened of them."""
    weights, plain, exact = sealed(), np.zeros(SIZE, np.uint8), content()
    inside = np.zeros(SIZE, bool)
    for first, last in NARROW:
        inside[first:last] = True
    weights.open(0, plain)
    assert (plain[~inside] == exact[~inside]).all()
    near, floats = plain[inside].view(np.float32), exact[inside].view(np.float32)
    assert not np.array_equal(near, floats)
    np.testing.assert_allclose(near, floats, atol=0.03)
    again = np.zeros(SIZE, np.uint8)
    weights.open(0, again)
    assert np.array_equal(plain, again)
    weights.open(1, again)
    assert np.array_equal(again, exact)
    narrow = int(inside.sum())
    assert weights.opened_bytes == 2 * SIZE - narrow + stored_bytes(narrow)


@pytest.mark.parametrize("narrow", [[(0, 100)], [(8192, 16384), (0, 8192)], [(0, 1 << 40)]])
def test_ranges_that_are_no_groups_are_refused(narrow: list[tuple[int, int]]) -> None:
    """Ranges must be whole groups, in order, within the stage."""
    with pytest.raises(ValueError, match="whole groups"):
        SealedWeights([SIZE], [narrow])


@pytest.mark.parametrize("place", [0, 64, 64 + TAG_BYTES, 64 + TAG_BYTES + 100, 64 + TAG_BYTES + 40_000])
def test_a_changed_byte_is_found(place: int) -> None:
    """A changed byte ends the opening, in what is stored as it is, in scales, in codes and in tags."""
    weights = sealed()
    weights._memory[place] ^= 1
    with pytest.raises(WeightsTamperedError, match="stage 0"):
        weights.open(0, np.zeros(SIZE, np.uint8))


def test_a_stage_of_int8_does_not_open_as_one_of_floats() -> None:
    """Blocks of the same size do not open in a stage whose weights are stored in the other form."""
    small = stored_bytes(BLOCK_BYTES)
    weights = SealedWeights([BLOCK_BYTES, small], [[(0, BLOCK_BYTES)], ()])
    weights.seal(0, np.zeros(BLOCK_BYTES, np.uint8))
    weights.seal(1, np.zeros(small, np.uint8))
    block = small + TAG_BYTES
    memory = weights._memory
    memory[:block], memory[block : 2 * block] = bytes(memory[block : 2 * block]), bytes(memory[:block])
    for stage, size in ((0, BLOCK_BYTES), (1, small)):
        with pytest.raises(WeightsTamperedError):
            weights.open(stage, np.zeros(size, np.uint8))
