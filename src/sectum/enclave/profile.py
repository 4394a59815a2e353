"""Profiles: what one kind of enclave costs, as data.

A profile is a JSON file, checked against its schema, in which every constant names where it comes from. The
time of an inference is the sum of four parts::

    compute  native time x compute_factor
    memory   bytes of weights streamed from the EPC x stream_ns_per_byte
    paging   loads x load_us + evictions x evict_us + minor faults x minor_fault_us
    entry    base_us

More than one thread multiplies the factor of compute and the cost of paging, and adds to the entry, by a
constant for each thread beyond the first.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from sectum.errors import ArtefactInvalid, UsageError
from sectum.units import format_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sectum.paging.replacement import PagingCounts, Policy

SCHEMA = "sectum-profile/1"
STREAMING_FLOPS_PER_BYTE = 10.0
"""An operator streams its weights when it does fewer floating-point operations than this on each weight byte.

That is about where one core turns from waiting for memory to computing: 32 operations a cycle at 3.7 GHz
(AVX2, two fused multiply-adds) over 10-20 GB/s. A fully connected layer at batch 1 does 0.5; a convolution
over 13x13 positions does 84, and hides the memory's extra time behind its arithmetic.
"""

_MAX_FILE_BYTES = 1 << 20
_KINDS = ("measured", "fitted", "published", "default", "definition")
_COSTS = ("compute_factor", "stream_ns_per_byte", "load_us", "evict_us", "minor_fault_us", "base_us")
_POLICIES = ("fifo", "lru", "second-chance")  # those of `replacement.Policy`, which costs an import of NumPy


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a constant comes from: ``kind`` is measured, fitted, published, default or definition."""

    kind: str
    source: str
    doi: str | None = None


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The time of one inference in an enclave, by cause."""

    compute_ms: float
    memory_ms: float
    paging_ms: float
    entry_ms: float

    @property
    def total_ms(self) -> float:
        """The whole inference."""
        return self.compute_ms + self.memory_ms + self.paging_ms + self.entry_ms


@dataclass(frozen=True, slots=True)
class ThreadModel:
    """What each thread beyond the first adds."""

    compute_factor: float = 0.0
    """Share added to the compute factor."""
    page_factor: float = 0.0
    """Share added to the cost of a page fault."""
    base_us: float = 0.0
    """Microseconds added to an inference."""


@dataclass(frozen=True)
class Profile:
    """What one kind of enclave costs. Made by `load`, or from another by ``with_...``; checked when made."""

    name: str
    description: str
    runtime: str
    """The runtime and the machine that the constants hold for: fusion, copies and allocators differ."""
    epc_bytes: int | None
    """Protected memory that an enclave can use; None: as much as it asks for."""
    page_bytes: int
    policy: Policy
    batch: int
    """Pages that one reclaim looks at."""
    compute_factor: float
    """Time of compute inside the EPC over native time."""
    stream_ns_per_byte: float
    """Extra time for each byte of weights that is streamed from the EPC, see `streamed_bytes`."""
    load_us: float
    evict_us: float
    minor_fault_us: float
    base_us: float
    """Entering and leaving the enclave, once an inference."""
    threads: ThreadModel = field(default_factory=ThreadModel)
    provenance: Mapping[str, Provenance] = field(default_factory=dict, hash=False)
    """For every constant, where it comes from; those of ``threads`` have names like ``threads.base_us``."""

    def __post_init__(self) -> None:
        from sectum.paging.replacement import Policy

        _check(self)
        object.__setattr__(self, "policy", Policy(self.policy))
        for name in _COSTS:
            object.__setattr__(self, name, float(getattr(self, name)))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    def __reduce__(self) -> tuple[Any, ...]:
        """A profile travels to another process as what its file holds."""
        return _from_content, (self.to_json(),)

    @property
    def epc_pages(self) -> int | None:
        """Whole pages that the EPC holds; None: unlimited."""
        return None if self.epc_bytes is None else self.epc_bytes // self.page_bytes

    @property
    def sha256(self) -> str:
        """SHA-256 of the profile's content, the same for every layout of its file."""
        compact = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(compact.encode()).hexdigest()

    @property
    def provisional(self) -> bool:
        """Whether a constant is a mere default, that nobody measured, fitted or published for this enclave."""
        return any(origin.kind == "default" for origin in self.provenance.values())

    def in_enclave_ms(
        self, native_ms: float, streamed_bytes: float, counts: PagingCounts | None, threads: int = 1
    ) -> Breakdown:
        """Predict the time of one inference.

        Bytes that are paged in are not streamed as well: a page that was just decrypted is in the cache when
        the operator reads it, and its cost is in that of the fault.

        Args:
            native_ms: time of the same inference outside, with as many threads.
            streamed_bytes: bytes of weights that operators stream, see `streamed_bytes`.
            counts: page faults of the inference, see `replacement.steady_state`; None: none.
            threads: compute threads.

        Raises:
            UsageError: an argument is out of its range.
        """
        if not (math.isfinite(native_ms) and native_ms >= 0):
            raise UsageError(f"native_ms is {native_ms}; give a time of 0 ms or more")
        if not (math.isfinite(streamed_bytes) and streamed_bytes >= 0):
            raise UsageError(f"streamed_bytes is {streamed_bytes}; give 0 bytes or more")
        extra = _extra_threads(threads)
        loaded_bytes = counts.loads * self.page_bytes if counts is not None else 0.0
        resident_bytes = max(0.0, streamed_bytes - loaded_bytes)
        return Breakdown(
            compute_ms=native_ms * self.compute_factor * (1 + self.threads.compute_factor * extra),
            memory_ms=resident_bytes * self.stream_ns_per_byte / 1e6,
            paging_ms=self.paging_ms(counts, threads) if counts is not None else 0.0,
            entry_ms=(self.base_us + self.threads.base_us * extra) / 1e3,
        )

    def by_operator_ms(
        self,
        native_ms: NDArray[np.float64],
        streamed_bytes: NDArray[np.float64],
        counts: PagingCounts,
        threads: int = 1,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Do what `in_enclave_ms` does for each operator of an inference; entering the enclave is not among it.

        Args:
            native_ms: time of each operator outside, shape ``(operators,)``.
            streamed_bytes: bytes of weights that each streams, see `streamed_bytes`; shape ``(operators,)``.
            counts: page faults of the inference, by operator.
            threads: compute threads.

        Returns:
            Times of compute, of slower memory, and of paging; each of shape ``(operators,)``.

        Raises:
            UsageError: threads is out of its range.
        """
        extra = _extra_threads(threads)
        compute_ms = native_ms * self.compute_factor * (1 + self.threads.compute_factor * extra)
        resident_bytes = (streamed_bytes - counts.loads_by_operator * self.page_bytes).clip(0.0)
        paging_us = (
            self.load_us * counts.loads_by_operator
            + self.evict_us * counts.evictions_by_operator
            + self.minor_fault_us * counts.minor_faults_by_operator
        )
        paging_ms = paging_us * (1 + self.threads.page_factor * extra) / 1e3
        return compute_ms, resident_bytes * self.stream_ns_per_byte / 1e6, paging_ms

    def paging_ms(self, counts: PagingCounts, threads: int = 1) -> float:
        """Predict the time that an inference spends on page faults.

        Args:
            counts: its page faults, see `replacement.steady_state`.
            threads: compute threads.

        Raises:
            UsageError: threads is out of its range.
        """
        paging_us = (
            self.load_us * counts.loads + self.evict_us * counts.evictions + self.minor_fault_us * counts.minor_faults
        )
        return paging_us * (1 + self.threads.page_factor * _extra_threads(threads)) / 1e3

    def with_epc(self, epc_bytes: int | None) -> Self:
        """Give the enclave another amount of protected memory, in bytes; None: unlimited.

        Raises:
            UsageError: not even one page fits.
        """
        if epc_bytes is not None and epc_bytes < self.page_bytes:
            raise UsageError(f"an EPC of {epc_bytes} bytes holds no page of {self.page_bytes}; give more")
        size = "unlimited" if epc_bytes is None else format_bytes(epc_bytes)
        given = Provenance("definition", f"asked for: {size}")
        return replace(self, epc_bytes=epc_bytes, provenance={**self.provenance, "epc_bytes": given})

    def with_constants(self, origin: Provenance, **constants: float) -> Self:
        """Replace constants, all by values from ``origin``.

        Args:
            origin: where the values come from.
            constants: names as in `constant_names`, with ``threads_base_us`` for ``threads.base_us``.


        Raises:
            UsageError: there is no constant of that name.
            ArtefactInvalid: a value is out of its range.
        """
        provenance, threads = dict(self.provenance), self.threads
        own: dict[str, Any] = {}
        for name, value in constants.items():
            key = name.replace("threads_", "threads.", 1)
            if key not in constant_names():
                raise UsageError(f"a profile has no constant '{name}'; it has {', '.join(constant_names())}")
            provenance[key] = origin
            if key.startswith("threads."):
                threads = replace(threads, **{key.removeprefix("threads."): value})
            else:
                own[key] = value
        return replace(self, **own, threads=threads, provenance=provenance)

    def to_json(self) -> dict[str, Any]:
        """Give the profile as plain data, as its file holds it."""
        content: dict[str, Any] = {"schema": SCHEMA}
        for item in fields(self):
            content[item.name] = getattr(self, item.name)
        content["policy"] = str(self.policy)
        content["threads"] = {item.name: getattr(self.threads, item.name) for item in fields(ThreadModel)}
        content["provenance"] = {
            name: {"kind": origin.kind, "source": origin.source} | ({"doi": origin.doi} if origin.doi else {})
            for name, origin in self.provenance.items()
        }
        return content

    def to_text(self) -> str:
        """Write the profile as the text of a file that `load` reads."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"


def streamed_bytes(weight_bytes: float, flops: float) -> float:
    """Say how many of an operator's weight bytes are streamed: all or none, see `STREAMING_FLOPS_PER_BYTE`.

    Args:
        weight_bytes: size of the operator's weights.
        flops: its floating-point operations in an inference; a multiplication with its addition is two.
    """
    return weight_bytes if flops < STREAMING_FLOPS_PER_BYTE * weight_bytes else 0.0


def constant_names() -> tuple[str, ...]:
    """List the constants of a profile, each of which needs a provenance."""
    texts = {"name", "description", "runtime", "threads", "provenance"}
    own = [item.name for item in fields(Profile) if item.name not in texts]
    return (*own, *(f"threads.{item.name}" for item in fields(ThreadModel)))


def names() -> tuple[str, ...]:
    """List the profiles that come with the package."""
    folder = resources.files("sectum.enclave") / "profiles"
    return tuple(sorted(f.name.removesuffix(".json") for f in folder.iterdir() if f.name.endswith(".json")))


def load(name_or_path: str | Path) -> Profile:
    """Read a profile of the package by its name, or one of yours by its path (with a ``.json`` or a ``/``).

    Raises:
        UsageError: no profile has that name.
        ArtefactInvalid: the file cannot be read, or is not a profile.
    """
    if isinstance(name_or_path, str) and not (name_or_path.endswith(".json") or "/" in name_or_path):
        if name_or_path not in names():
            known = ", ".join(names())
            raise UsageError(f"no profile is called '{name_or_path}'; choose {known}, or give a .json file")
        shipped = resources.files("sectum.enclave") / "profiles" / f"{name_or_path}.json"
        return parse(shipped.read_bytes(), f"profile '{name_or_path}'")
    path = Path(name_or_path)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ArtefactInvalid(f"{path} cannot be read ({error.strerror}); give a profile's .json") from error
    return parse(data, str(path))


def parse(data: bytes, origin: str) -> Profile:
    """Make a profile of its file's bytes; ``origin`` names the file in errors.

    Raises:
        ArtefactInvalid: the bytes are not a profile of this schema; the message names the first fault.
    """
    if len(data) > _MAX_FILE_BYTES:
        raise ArtefactInvalid(f"{origin}: larger than {format_bytes(_MAX_FILE_BYTES)}, so not a profile")
    try:
        content = json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ArtefactInvalid(f"{origin}: not valid JSON ({error}); mend it") from error
    try:
        return _from_content(content)
    except ArtefactInvalid as error:
        raise ArtefactInvalid(f"{origin}: {error}") from error


def _from_content(content: object) -> Profile:
    document = _object(content, "the file", {"schema", *(item.name for item in fields(Profile))})
    if document.pop("schema") != SCHEMA:
        raise ArtefactInvalid(f"its schema is not '{SCHEMA}', the only one that this version reads")
    threads = _object(document.pop("threads"), "threads", {item.name for item in fields(ThreadModel)})
    origins = _object(document.pop("provenance"), "provenance", set(constant_names()))
    provenance = {
        name: Provenance(**_object(origin, f"provenance of {name}", {"kind", "source"}, optional={"doi"}))
        for name, origin in origins.items()
    }
    return Profile(**document, threads=ThreadModel(**threads), provenance=provenance)


def _extra_threads(threads: int) -> int:
    if threads < 1:
        raise UsageError(f"threads is {threads}; give 1 or more")
    return threads - 1


def _object(
    value: object, where: str, keys: set[str], optional: frozenset[str] | set[str] = frozenset()
) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ArtefactInvalid(f"{where} is not a JSON object; it needs the keys {', '.join(sorted(keys))}")
    if unknown := sorted(value.keys() - keys - optional):
        raise ArtefactInvalid(f"{where} has the unknown key '{unknown[0]}'; remove it, or mend its spelling")
    if missing := sorted(keys - value.keys()):
        raise ArtefactInvalid(f"{where} lacks the key '{missing[0]}'; add it")
    return dict(value)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _check(profile: Profile) -> None:
    """Refuse what no enclave can be.

    Raises:
        ArtefactInvalid: a field has the wrong type or is out of its range.
    """
    for name in ("name", "description", "runtime"):
        value = getattr(profile, name)
        if not isinstance(value, str) or not value.strip():
            raise ArtefactInvalid(f"{name} is {value!r}; it has to be a text that is not empty")
    if profile.policy not in _POLICIES:
        raise ArtefactInvalid(f"policy is {profile.policy!r}; it has to be one of {', '.join(_POLICIES)}")
    _whole("page_bytes", profile.page_bytes, 1)
    _whole("batch", profile.batch, 1)
    if profile.epc_bytes is not None:
        _whole("epc_bytes", profile.epc_bytes, profile.page_bytes)
    for name in _COSTS:
        _cost(name, getattr(profile, name))
    for item in fields(ThreadModel):
        _cost(f"threads.{item.name}", getattr(profile.threads, item.name))
    for name, origin in profile.provenance.items():
        if origin.kind not in _KINDS:
            raise ArtefactInvalid(f"provenance of {name} is of kind {origin.kind!r}; kinds are {', '.join(_KINDS)}")
        for text in (origin.source, "none" if origin.doi is None else origin.doi):
            if not isinstance(text, str) or not text.strip():
                raise ArtefactInvalid(f"provenance of {name} has {text!r}; source and doi are texts, not empty")
    if missing := [name for name in constant_names() if name not in profile.provenance]:
        raise ArtefactInvalid(f"provenance lacks '{missing[0]}'; say where the constant comes from")


def _whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArtefactInvalid(f"{name} is {value!r}; it has to be a whole number of {least} or more")


def _cost(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e9:
        raise ArtefactInvalid(f"{name} is {value!r}; it has to be a number from 0 to 1e9")
