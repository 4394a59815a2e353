"""Several clients at once."""

from __future__ import annotations

from hetee_soak import run


def test_more_clients_than_accelerators_are_all_served() -> None:
    """Six clients on two accelerators: no error, own results only, everybody has its turn again and again."""
    found = run(clients=6, accelerators=2, seconds=12)
    assert not found["errors"]
    assert not found["restarted"]
    assert found["answered"]["least"] >= 2
