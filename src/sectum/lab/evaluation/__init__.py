"""How good predictions are: what learns, on which networks, judged by which figures, beside the labels' own noise."""

from __future__ import annotations
