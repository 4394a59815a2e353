"""The size of chunks that an owner may ask for."""

from __future__ import annotations

import pytest

from sectum.hetee.client import connect
from sectum.hetee.errors import HeteeError, Refusal
from sectum.hetee.verification.policy import Policy


@pytest.mark.parametrize("chunk_bytes", [0, 4095, (1 << 20) + 1])
def test_a_size_that_no_receiver_takes_is_refused_at_once(chunk_bytes: int) -> None:
    """A wrong chunk size is refused before connecting."""
    with pytest.raises(HeteeError) as caught:
        connect("hetee://127.0.0.1:1", Policy(formats=(), measurements={}, roots=()), chunk_bytes=chunk_bytes)
    assert caught.value.code is Refusal.CHUNK_SIZE
