"""Architectures whose latency in an enclave stays under a bound.

`search` chooses them by Optuna; `front_of` takes them from any list or search, and needs no library for searching.
"""

from __future__ import annotations

from sectum.plan.search.evaluating import Evaluated, Setting
from sectum.plan.search.front import Found, front_of
from sectum.plan.search.objectives import named as named_objective
from sectum.plan.search.study import SearchResult, search

__all__ = ["Evaluated", "Found", "SearchResult", "Setting", "front_of", "named_objective", "search"]
