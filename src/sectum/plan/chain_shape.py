"""What a plan's file says of several enclaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sectum.enclave.runners.relay import Pace
from sectum.enclave.runners.runner import MIN_EPC_BYTES
from sectum.plan.assignment import GOALS
from sectum.plan.reading import Reader

MOST_ENCLAVES = 64
_MOST_BITS_PER_S, _MOST_DELAY_MS = 1e15, 1e5
_MOST_THREADS, _MOST_BUFFERS = 256, 4
_LINK_FIELDS = frozenset({"bits_per_s", "delay_ms", "seal_ms_per_mib", "open_ms_per_mib", "message_ms", "kind"})
_ENCLAVE_FIELDS = frozenset({
    "epc_bytes", "threads", "buffers", "buffer_bytes", "arena_bytes", "resident_bytes", "opened_bytes",
    "received_bytes", "sent_bytes", "busy_ms", "interval_ms", "link_opening_ms", "link_sealing_ms", "link_ms", "loads",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class EnclaveShape:
    """One enclave of a plan.

    Attributes:
        epc_bytes: of it.
        threads: all of them, the one that opens included.
        buffers: that streamed weights are opened into.
        buffer_bytes: the most that a buffer may hold.
        arena_bytes: of memory for activations.
    """

    epc_bytes: int
    threads: int
    buffers: int
    buffer_bytes: int
    arena_bytes: int


@dataclass(frozen=True, slots=True)
class ChainShape:
    """The enclaves of a plan, in the order in which a request passes through them.

    Attributes:
        goal: what the plan makes small: ``"latency"`` or ``"throughput"``.
        link: between two enclaves.
        enclaves: in order.
        enclave_of: the enclave of each stage.
    """

    goal: str
    link: Pace
    enclaves: tuple[EnclaveShape, ...]
    enclave_of: tuple[int, ...]


def parse_chain(reader: Reader, whole: dict[str, Any], stages: Sequence[Any]) -> ChainShape:
    """Check the JSON types that say what each enclave is.

    Args:
        reader: of the plan.
        whole: the plan.
        stages: of the plan.

    Raises:
        ArtefactInvalid: they are wrong, or stages do not pass through all enclaves in order.
    """
    link = reader.mapping(whole.get("link"), "link", _LINK_FIELDS)
    enclaves = reader.items(whole.get("enclaves"), "enclaves", MOST_ENCLAVES)
    numbers = [
        reader.number(reader.mapping(one, f"stages[{number}]").get("enclave"), f"stages[{number}].enclave", 0,
                      MOST_ENCLAVES)
        for number, one in enumerate(stages)
    ]  # fmt: skip
    if numbers[0] != 0 or numbers[-1] + 1 != len(enclaves) or any(b - a not in (0, 1) for a, b in pairwise(numbers)):
        raise reader.error(
            "enclave of the stages",
            f"0, then 1, and so on up to {len(enclaves) - 1}, as 'enclaves' has {len(enclaves)}",
        )
    if whole.get("goal") not in GOALS:
        raise reader.error("goal", " or ".join(f"'{goal}'" for goal in GOALS))
    return ChainShape(
        goal=whole["goal"],
        link=Pace(
            reader.amount(link.get("bits_per_s"), "link.bits_per_s", 1.0, _MOST_BITS_PER_S),
            reader.amount(link.get("delay_ms"), "link.delay_ms", 0.0, _MOST_DELAY_MS),
        ),
        enclaves=tuple(_enclave(reader, one, number) for number, one in enumerate(enclaves)),
        enclave_of=tuple(numbers),
    )


def _enclave(reader: Reader, data: object, number: int) -> EnclaveShape:
    name = f"enclaves[{number}]"
    enclave = reader.mapping(data, name, _ENCLAVE_FIELDS)
    return EnclaveShape(
        epc_bytes=reader.number(enclave.get("epc_bytes"), f"{name}.epc_bytes", MIN_EPC_BYTES),
        threads=reader.number(enclave.get("threads"), f"{name}.threads", 1, _MOST_THREADS),
        buffers=reader.number(enclave.get("buffers"), f"{name}.buffers", 1, _MOST_BUFFERS),
        buffer_bytes=reader.number(enclave.get("buffer_bytes"), f"{name}.buffer_bytes", 0),
        arena_bytes=reader.number(enclave.get("arena_bytes"), f"{name}.arena_bytes", 0),
    )
