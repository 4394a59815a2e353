"""Checks of a profile's content, from a file or made in Python. Each raises `ArtefactInvalid`."""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sectum.enclave.profile_kinds import GUESTS
from sectum.errors import ArtefactInvalid
from sectum.paging.residency import ReplacementPolicy
from sectum.units import format_bytes

if TYPE_CHECKING:
    from sectum.enclave.profile import Profile
    from sectum.enclave.profile_parts import Provenance

MAX_FILE_BYTES = 1 << 20
_KINDS = ("measured", "fitted", "published", "default", "definition", "unknown")


def read_json(data: bytes) -> object:
    """Read strict JSON: no key occurs twice in an object, and no number is NaN or infinite."""
    if len(data) > MAX_FILE_BYTES:
        raise ArtefactInvalid(f"larger than {format_bytes(MAX_FILE_BYTES)}, so not a profile")
    try:
        return json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ArtefactInvalid(f"not valid JSON ({error}); correct the file") from error


def json_object(value: object, where: str, keys: Collection[str], optional: Collection[str] = ()) -> dict[str, Any]:
    """Return the content of a JSON object that must have exactly these keys."""
    if not isinstance(value, dict):
        raise ArtefactInvalid(f"{where} is not a JSON object; it needs the keys {', '.join(sorted(keys))}")
    if unknown := sorted(value.keys() - {*keys, *optional}):
        raise ArtefactInvalid(f"{where} has the unknown key '{unknown[0]}'; remove it, or correct its spelling")
    if missing := sorted(set(keys) - value.keys()):
        raise ArtefactInvalid(f"{where} lacks the key '{missing[0]}'; add it")
    return dict(value)


def check_profile(profile: Profile, costs: Collection[str], constants: Collection[str]) -> None:
    """Require that each field of a profile has its type and is in its range.

    Args:
        profile: as it is being made.
        costs: names of the fields that are costs.
        constants: names of the constants that need a provenance.
    """
    for name in ("name", "description", "runtime"):
        require_text(name, getattr(profile, name))
    if profile.policy not in list(ReplacementPolicy):
        raise ArtefactInvalid(f"policy is {profile.policy!r}; it must be one of {', '.join(sorted(ReplacementPolicy))}")
    require_whole("page_bytes", profile.page_bytes, 1)
    require_whole("batch", profile.batch, 1)
    if profile.epc_bytes is not None:
        require_whole("epc_bytes", profile.epc_bytes, profile.page_bytes)
    for name in costs:
        require_cost(name, getattr(profile, name))
    for name, value in asdict(profile.threads).items():
        require_cost(f"threads.{name}", value)
    require_factor_range(profile.compute_factor_low, profile.compute_factor, profile.compute_factor_high)
    if profile.tee not in ("", *GUESTS):
        raise ArtefactInvalid(f"tee is {profile.tee!r}; it must be one of {', '.join(GUESTS)}, or be left out")
    if not isinstance(profile.measured_threads, list | tuple):
        raise ArtefactInvalid(f"measured_threads is {profile.measured_threads!r}; it must be a list of numbers")
    for n in profile.measured_threads:
        require_whole("a number in measured_threads", n, 1)
    require_provenance(profile.provenance, constants)
    if (profile.provenance["compute_factor"].kind == "unknown") != (profile.compute_factor is None):
        raise ArtefactInvalid("compute_factor must be null if its provenance is of kind 'unknown', and only then")


def require_text(name: str, value: object) -> None:
    """Require a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ArtefactInvalid(f"{name} is {value!r}; it must be a text that is not empty")


def require_whole(name: str, value: object, least: int) -> None:
    """Require a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArtefactInvalid(f"{name} is {value!r}; it must be a whole number of {least} or more")


def require_cost(name: str, value: object) -> None:
    """Require a number from 0 to 1e9."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e9:
        raise ArtefactInvalid(f"{name} is {value!r}; it must be a number from 0 to 1e9")


def require_factor_range(low: object, factor: object, high: object) -> None:
    """Require that a compute factor is a cost or unknown, and that its range holds it."""
    for name, value in (("compute_factor", factor), ("compute_factor_low", low), ("compute_factor_high", high)):
        if value is not None:
            require_cost(name, value)
    if factor == 0:
        raise ArtefactInvalid("compute_factor is 0; computing takes time in every enclave")
    ends = [value for value in (low, factor, high) if isinstance(value, int | float)]
    if factor is None and len(ends):
        raise ArtefactInvalid("compute_factor is null, so it has no range; leave its low and high ends out")
    if ends != sorted(ends):
        raise ArtefactInvalid("compute_factor must lie between compute_factor_low and compute_factor_high")


def require_provenance(provenance: Mapping[str, Provenance], constants: Collection[str]) -> None:
    """Require that each constant names its origin."""
    for name, origin in provenance.items():
        if origin.kind not in _KINDS:
            raise ArtefactInvalid(f"provenance of {name} is of kind {origin.kind!r}; kinds are {', '.join(_KINDS)}")
        require_text(f"the source in the provenance of {name}", origin.source)
        if origin.doi is not None:
            require_text(f"the doi in the provenance of {name}", origin.doi)
        if origin.date is not None:
            _require_date(f"the date in the provenance of {name}", origin.date)
    if missing := [name for name in constants if name not in provenance]:
        raise ArtefactInvalid(f"provenance lacks '{missing[0]}'; say where the constant comes from")


def _require_date(name: str, value: object) -> None:
    require_text(name, value)
    try:
        datetime.date.fromisoformat(str(value))
    except ValueError as error:
        raise ArtefactInvalid(f"{name} is {value!r}; write it as 2026-02-05") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")
