"""Untrusted names on a terminal; tests/property/test_cli_properties.py holds the rest."""

from __future__ import annotations

from sectum.cli.render.untrusted import printable


def test_a_long_name_loses_its_middle():
    """The start and the end of a name remain, which tell names apart."""
    shown = printable("a" * 500 + "end", limit=60)
    assert len(shown) == 60
    assert shown.startswith("aaa")
    assert shown.endswith("end")
