"""How accurate predictions of held-out networks are, beside the noise of the labels."""

from __future__ import annotations
