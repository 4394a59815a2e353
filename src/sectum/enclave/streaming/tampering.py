"""The errors of what was changed outside, and of a link that ended."""

from __future__ import annotations


class TamperedError(Exception):
    """What comes from untrusted memory is not what was sealed."""


class WeightsTamperedError(TamperedError):
    """A block of weights was changed, moved or replaced in untrusted memory."""


class LinkTamperedError(TamperedError):
    """A message of a link was changed, moved, replaced or cut on its way."""


class LinkEndedError(Exception):
    """A link ended between two messages, because the enclave at its other end or the host ended."""
