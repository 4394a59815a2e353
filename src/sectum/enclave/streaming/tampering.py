"""The error of weights that were changed outside."""

from __future__ import annotations


class WeightsTamperedError(Exception):
    """A block of weights was changed, moved or replaced in untrusted memory."""
