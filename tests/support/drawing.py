"""How many examples a property is tried with."""

from __future__ import annotations

from hypothesis import settings

USUAL = 100
"""Examples that Hypothesis draws for a property where nobody says otherwise."""
FAST_SHARE = 0.25
"""The share of them in runs without slow tests."""


def examples(count: int) -> settings:
    """Draw so many examples for a property, and a share of them in runs without slow tests."""
    return settings(max_examples=max(1, count * settings().max_examples // USUAL))
