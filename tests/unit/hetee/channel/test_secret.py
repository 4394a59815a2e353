"""Secrets are not shown, copied or kept."""

from __future__ import annotations

import copy
import gc
import logging
import pickle

import pytest

from sectum.hetee.channel.secret import Secret
from sectum.hetee.errors import RecordRefused, Refusal

KEY = b"\xa5key material, never to be seen!!"


def test_a_secret_does_not_show_itself() -> None:
    """Neither repr, str, formatting nor an exception about it has its bytes."""
    secret = Secret(KEY)
    for text in (repr(secret), str(secret), f"{secret}", f"{[secret]!r}", repr(vars.__doc__)):
        assert "key" not in text.replace("keyword", "")
        assert KEY.hex() not in text
    assert repr(secret) == "Secret(33 bytes)"


def test_a_secret_cannot_be_copied_or_pickled() -> None:
    """There is one buffer, so wiping it wipes all."""
    secret = Secret(KEY)
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be"):
            attempt(secret)
    with pytest.raises(TypeError):
        hash(secret)


def test_wiping_overwrites_the_bytes_themselves() -> None:
    """Wiping works on the one buffer, not on a copy, and a wiped secret cannot be read."""
    secret = Secret(KEY)
    with secret.reveal() as view:
        assert bytes(view) == KEY
        secret.wipe()
        assert bytes(view) == bytes(len(KEY))
    secret.wipe()
    assert secret.wiped
    with pytest.raises(RecordRefused) as caught, secret.reveal():
        pass
    assert caught.value.code is Refusal.WIPED


def test_a_view_ends_with_its_block() -> None:
    """Nobody keeps a view: using one later is an error, not a key of zeros."""
    with Secret(KEY).reveal() as view:
        gc.collect()
        assert bytes(view) == KEY  # the block keeps a secret alive that nothing else holds
    with pytest.raises(ValueError, match="released"):
        bytes(view)


def test_a_forgotten_secret_is_wiped() -> None:
    """A secret that nobody holds any more is overwritten."""
    secret = Secret(KEY)
    buffer = secret._buffer
    del secret
    gc.collect()
    assert bytes(buffer) == bytes(len(KEY))


def test_secrets_compare_by_their_bytes() -> None:
    """Equal bytes are equal secrets; nothing else equals one."""
    assert Secret(KEY) == Secret(KEY)
    assert Secret(KEY) != Secret(KEY[::-1])
    assert Secret(KEY) != KEY


def test_logging_a_secret_logs_no_byte_of_it(caplog: pytest.LogCaptureFixture) -> None:
    """A careless log line does no harm."""
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("t").info("secret %s %r %s", Secret(KEY), Secret(KEY), {"k": Secret(KEY)})
    assert caplog.text.count("Secret(33 bytes)") == 3
