"""What a rack's host tells operators becomes an entry of an inventory; it may be anything."""

from __future__ import annotations

import msgspec
import pytest

from sectum.hetee.inventory import Inventory, read_inventory
from sectum.hetee.pool.protocol import entry_of, printable, rack_name
from sectum.hetee.wire.state import State

URL = "hetee://10.0.0.7:7625"


def told(**changes: object) -> dict[str, object]:
    accelerators = [{"name": "cpu:0", "world": "free"}, {"name": "cpu:1", "world": "secure"}]
    state = State(workers=(), waiting=3, sessions=2, draining=False)
    return {"controller": msgspec.to_builtins(state) | {"accelerators": accelerators} | changes, "error": None}


def test_a_rack_that_serves_is_counted() -> None:
    """Accelerators are counted by kind, and those that are free."""
    entry = entry_of("north", URL, told(), restarts=1)
    assert (entry.accelerators, entry.free, entry.healthy) == ({"cpu": 2}, {"cpu": 1}, True)
    assert (entry.sessions, entry.waiting, entry.restarts) == (2, 3, 1)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (None, "it ended"),
        ({"controller": None, "error": "silent"}, "it ended"),
        ({"controller": {"workers": 7}}, "it ended"),
        (told(draining=True), "it is being stopped"),
        (told(problems=["full\x1b[0m"]), "full [0m"),
    ],
)
def test_a_rack_that_does_not_serve_says_why(state: dict[str, object] | None, why: str) -> None:
    """Silence, nonsense, stopping and problems are no health, and the reason is printable."""
    entry = entry_of("north", URL, state, problem="it ended")
    assert not entry.healthy
    assert entry.problems == (why,)
    inventory = Inventory("local", (entry,))
    assert read_inventory(msgspec.json.encode(inventory)) == inventory


def test_names_are_made_of_few_characters() -> None:
    """A node's name becomes that of a folder, so it has no separators, and is never empty."""
    assert rack_name("north/../x y") == "north-..-x-y"
    assert rack_name("é") == "-"
    assert rack_name("") == rack_name("..") == "rack"
    assert printable("a\r\nb\x9bc") == "a b c"
