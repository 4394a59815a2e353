"""Commands that people are told to type."""

from __future__ import annotations

import shlex

import pytest

from sectum.cli.plan.link_options import _BANDWIDTHS, _DELAYS, _read
from sectum.cli.render.command_line import size, typed, unbroken
from sectum.enclave.runners.relay import Pace
from sectum.plan.links import DEFAULT_LINK
from sectum.units import KIB, MIB, parse_bytes


@pytest.mark.parametrize("n_bytes", [256 * KIB, 93 * MIB, 1536 * MIB, 97_517_569, 90 * MIB + 4096, 1 << 40])
def test_a_size_is_read_as_what_it_was(n_bytes: int) -> None:
    """A size in a command is exactly the size that was meant."""
    assert parse_bytes(size(n_bytes)) == n_bytes


def test_a_command_has_what_is_not_the_default() -> None:
    """Options with their default are left out, and others are written as they are read."""
    assert typed("plan", "zoo:vgg16") == "sectum plan zoo:vgg16"
    words = typed("plan", "my model.onnx", enclave="sgx1", epc_bytes=93 * MIB, batch=2, inputs={"x": (1, 3)}, threads=2)
    assert shlex.split(words) == [
        "sectum", "plan", "my model.onnx", "--enclave", "sgx1", "--epc", "93MiB", "--batch", "2", "--input", "x=1x3",
        "--threads", "2",
    ]  # fmt: skip


def test_a_command_for_several_enclaves_has_their_link() -> None:
    """The link of several enclaves is written so that it is read exactly, and left out where it is the default."""
    assert typed("plan", "zoo:vgg16", enclaves=3, link=DEFAULT_LINK) == "sectum plan zoo:vgg16 --enclaves 3"
    assert typed("plan", "zoo:vgg16", link=Pace(1e6, 2.0)) == "sectum plan zoo:vgg16"
    words = shlex.split(typed("plan", "zoo:vgg16", enclaves=3, link=Pace(2.5e9, 0.05)))
    read = _read(_BANDWIDTHS, 1e15, "")(None, None, words[words.index("--bandwidth") + 1])
    delay = _read(_DELAYS, 6e4, "")(None, None, words[words.index("--delay") + 1])
    assert (read, delay) == (2.5e9, 0.05)


def test_a_command_in_a_sentence_is_not_broken() -> None:
    """The spaces of the command are such that no line is broken there, and no others."""
    assert unbroken("run 'a b' now", "a b") == "run 'a\N{NO-BREAK SPACE}b' now"
