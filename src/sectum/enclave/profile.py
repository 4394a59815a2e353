"""Profiles: what one kind of enclave costs, as data.

A profile is a JSON file. It is checked against its schema, and every constant in it names its origin. The time of an
inference is the sum of four parts::

    compute  native time x compute_factor
    memory   bytes of weights streamed from the EPC x stream_ns_per_byte
    paging   loads x load_us + evictions x evict_us + minor faults x minor_fault_us
    entry    base_us + bytes of inputs and outputs x transfer_ns_per_byte

Each thread beyond the first increases compute_factor and the cost of page faults by a share, and the entry by a time.

A confidential virtual machine has no EPC: nothing is paged, and its profile is a factor and the cost of transfers.
Where no measurement of the factor could be read at its source, the factor is unknown (null in the file). Such a profile
predicts only with a calibration from inside the machine, whose native times already contain it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sectum.enclave.profile_checks import MAX_FILE_BYTES, check_profile, json_object, read_json
from sectum.enclave.profile_kinds import GUESTS, NOT_PREDICTED
from sectum.enclave.profile_parts import InferenceTime, Provenance, ThreadModel
from sectum.errors import ArtefactInvalid, UsageError
from sectum.paging.residency import ReplacementPolicy
from sectum.units import format_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sectum.paging.replacement import PagingCounts

    Number = TypeVar("Number", float, NDArray[np.float64])

SCHEMA = "sectum-profile/1"
STREAMING_FLOPS_PER_BYTE = 10.0
"""An operator streams its weights if it does fewer floating-point operations than this for each weight byte.

Below about this number one core waits for memory: it does 32 operations a cycle at 3.7 GHz (AVX2, two fused
multiply-adds) and reads 10-20 GB/s. A fully connected layer at batch 1 does 0.5 operations for each byte. A convolution
over 13x13 positions does 84, and its arithmetic hides the extra time of the memory.
"""

_COSTS = ("stream_ns_per_byte", "load_us", "evict_us", "minor_fault_us", "base_us", "transfer_ns_per_byte")
_FACTORS = ("compute_factor", "compute_factor_low", "compute_factor_high")
_OPTIONAL = {"compute_factor_low": None, "compute_factor_high": None, "transfer_ns_per_byte": 0.0}
"""Constants that a file may leave out, and their values then."""
_LEFT_OUT: Mapping[str, object] = {**_OPTIONAL, "tee": "", "measured_threads": ()}
"""All keys that a file may leave out."""


@dataclass(frozen=True)
class Profile:
    """Costs of one kind of enclave. `load` reads one, ``with_...`` changes one; each is checked when it is made."""

    name: str
    description: str
    runtime: str
    """The runtime and the machine that the constants are valid for: fusion, copies and allocators differ."""
    epc_bytes: int | None
    """Protected memory that an enclave can use; None: no limit."""
    page_bytes: int
    policy: ReplacementPolicy
    batch: int
    """Pages that one reclaim looks at."""
    compute_factor: float | None
    """Compute time in the enclave over native time; None: unknown, see `calibrated_inside`."""
    stream_ns_per_byte: float
    """Extra time for each byte of weights that is streamed from the EPC, see `streamed_bytes`."""
    load_us: float
    evict_us: float
    minor_fault_us: float
    base_us: float
    """Entering and leaving the enclave, once for each inference."""
    compute_factor_low: float | None = None
    """Smallest factor that the sources leave possible; None: that of ``compute_factor``."""
    compute_factor_high: float | None = None
    """Largest factor that the sources leave possible; None: that of ``compute_factor``."""
    transfer_ns_per_byte: float = 0.0
    """Time for each byte of inputs and outputs, which cross the enclave's boundary."""
    tee: str = ""
    """The kind of confidential machine that this is, one of `GUESTS`; empty for any other enclave."""
    measured_threads: tuple[int, ...] = ()
    """Numbers of threads that the constants were measured with; empty where that is not known."""
    threads: ThreadModel = field(default_factory=ThreadModel)
    provenance: Mapping[str, Provenance] = field(default_factory=dict, hash=False)
    """Origin of every constant; those of ``threads`` have names like ``threads.base_us``."""

    def __post_init__(self) -> None:
        given = (name for name, left_out in _OPTIONAL.items() if getattr(self, name) != left_out)
        check_profile(self, _COSTS, (*constant_names(), *given))
        object.__setattr__(self, "policy", ReplacementPolicy(self.policy))
        for name in (*_COSTS, *_FACTORS):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))
        object.__setattr__(self, "measured_threads", tuple(self.measured_threads))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the profile as the content of its file, for other processes."""
        return _from_content, (self.to_json(),)

    @property
    def epc_pages(self) -> int | None:
        """Whole pages that the EPC holds; None: unlimited."""
        return None if self.epc_bytes is None else self.epc_bytes // self.page_bytes

    @property
    def sha256(self) -> str:
        """SHA-256 of the profile's content; the layout of the file does not matter."""
        compact = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(compact.encode()).hexdigest()

    @property
    def factor_range(self) -> tuple[float, float]:
        """The smallest and the largest possible factor, both over ``compute_factor``; 1 and 1 where it has no range.

        Raises:
            UsageError: the factor is unknown.
        """
        factor = self._known_factor()
        low, high = self.compute_factor_low, self.compute_factor_high
        return (factor if low is None else low) / factor, (factor if high is None else high) / factor

    def calibrated_inside(self) -> Self:
        """The profile for native times that were measured inside such a machine: they contain the factor already."""
        origin = Provenance("definition", f"calibrated inside {GUESTS[self.tee].words}: native times contain its cost")
        changed = {"compute_factor", "compute_factor_low", "compute_factor_high", "threads.compute_factor"}
        kept = {name: found for name, found in self.provenance.items() if name not in changed}
        return replace(
            self,
            compute_factor=1.0,
            compute_factor_low=None,
            compute_factor_high=None,
            threads=replace(self.threads, compute_factor=0.0),
            provenance={**kept, "compute_factor": origin, "threads.compute_factor": origin},
        )

    def require_known_factor(self) -> None:
        """Check that a native time can be turned into one in the enclave.

        Raises:
            UsageError: the factor is unknown; the message says why and what to do.
        """
        self._known_factor()

    def _known_factor(self) -> float:
        if self.compute_factor is not None:
            return self.compute_factor
        remedy = "give a profile of your own"
        if self.tee:
            guest = GUESTS[self.tee]
            remedy = (
                f"run 'sectum calibrate' and this prediction inside {guest.words}, which is recognised by "
                f"/dev/{guest.devices[0]}"
            )
        why = self.provenance["compute_factor"].source
        raise UsageError(f"'{self.name}' cannot be predicted from outside: {why}. Instead, {remedy}")

    def in_enclave_ms(
        self,
        native_ms: float,
        streamed_bytes: float,
        counts: PagingCounts | None,
        threads: int = 1,
        crossing_bytes: int = 0,
    ) -> InferenceTime:
        """Predict the time of one inference.

        Loaded bytes are not streamed as well: a page that was just decrypted is in the cache when the operator reads
        it, and the cost of the page fault includes it.

        Args:
            native_ms: time of the same inference outside the enclave, with as many threads.
            streamed_bytes: bytes of weights that operators stream, see `streamed_bytes`.
            counts: page faults of the inference, see `replacement.steady_state`; None: no page faults.
            threads: compute threads.
            crossing_bytes: size of the inputs and outputs, which cross the enclave's boundary.

        Raises:
            UsageError: an argument is out of its range, or the compute factor is unknown.
        """
        if not (math.isfinite(native_ms) and native_ms >= 0):
            raise UsageError(f"native_ms is {native_ms}; give a time of 0 ms or more")
        if not (math.isfinite(streamed_bytes) and streamed_bytes >= 0):
            raise UsageError(f"streamed_bytes is {streamed_bytes}; give 0 bytes or more")
        loaded_bytes = counts.loads * self.page_bytes if counts is not None else 0.0
        return InferenceTime(
            compute_ms=self._compute_ms(native_ms, threads),
            memory_ms=max(0.0, streamed_bytes - loaded_bytes) * self.stream_ns_per_byte / 1e6,
            paging_ms=self.paging_ms(counts, threads) if counts is not None else 0.0,
            entry_ms=self.entry_ms(crossing_bytes, threads),
        )

    def by_operator_ms(
        self,
        native_ms: NDArray[np.float64],
        streamed_bytes: NDArray[np.float64],
        counts: PagingCounts,
        threads: int = 1,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Predict the time of each operator, without the entry into the enclave; see `in_enclave_ms`.

        Args:
            native_ms: time of each operator outside the enclave, shape ``(operators,)``.
            streamed_bytes: bytes of weights that each operator streams, see `streamed_bytes`; shape ``(operators,)``.
            counts: page faults of the inference, by operator.
            threads: compute threads.

        Returns:
            Times of compute, of slower memory, and of paging, each of shape ``(operators,)``.

        Raises:
            UsageError: threads is out of its range.
        """
        loads, evictions = counts.loads_by_operator, counts.evictions_by_operator
        resident_bytes = (streamed_bytes - loads * self.page_bytes).clip(0.0)
        return (
            self._compute_ms(native_ms, threads),
            resident_bytes * self.stream_ns_per_byte / 1e6,
            self._faults_ms(loads, evictions, counts.minor_faults_by_operator, threads),
        )

    def paging_ms(self, counts: PagingCounts, threads: int = 1) -> float:
        """Predict the time of an inference's page faults.

        Raises:
            UsageError: threads is out of its range.
        """
        return self._faults_ms(counts.loads, counts.evictions, counts.minor_faults, threads)

    def entry_ms(self, crossing_bytes: int, threads: int = 1) -> float:
        """Predict the time to enter and leave the enclave, with inputs and outputs of ``crossing_bytes``.

        Raises:
            UsageError: threads is out of its range.
        """
        base_us = self.base_us + self.threads.base_us * _extra_threads(threads)
        return base_us / 1e3 + crossing_bytes * self.transfer_ns_per_byte / 1e6

    def _compute_ms(self, native_ms: Number, threads: int) -> Number:
        return native_ms * self._known_factor() * (1 + self.threads.compute_factor * _extra_threads(threads))

    def _faults_ms(self, loads: Number, evictions: Number, minor_faults: Number, threads: int) -> Number:
        faults_us = self.load_us * loads + self.evict_us * evictions + self.minor_fault_us * minor_faults
        return faults_us * (1 + self.threads.page_factor * _extra_threads(threads)) / 1e3

    def with_epc(self, epc_bytes: int | None) -> Self:
        """Change the amount of protected memory, in bytes; None: no limit.

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
            if key not in (known := (*constant_names(), *_OPTIONAL)):
                raise UsageError(f"a profile has no constant '{name}'; it has {', '.join(known)}")
            provenance[key] = origin
            if key.startswith("threads."):
                threads = replace(threads, **{key.removeprefix("threads."): value})
            else:
                own[key] = value
        return replace(self, **own, threads=threads, provenance=provenance)

    def measured_with(self, threads: Iterable[int]) -> Self:
        """Say which numbers of threads the constants were measured with."""
        return replace(self, measured_threads=tuple(sorted(threads)))

    def to_json(self) -> dict[str, Any]:
        """Give the profile as plain data: the content of its file."""
        content: dict[str, Any] = {"schema": SCHEMA}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name not in _LEFT_OUT or value != _LEFT_OUT[item.name]:
                content[item.name] = list(value) if isinstance(value, tuple) else value
        content["policy"] = str(self.policy)
        content["threads"] = {item.name: getattr(self.threads, item.name) for item in fields(ThreadModel)}
        content["provenance"] = {
            name: {key: value for key, value in asdict(origin).items() if value is not None}
            for name, origin in self.provenance.items()
        }
        return content

    def to_text(self) -> str:
        """Give the text of a file that `load` reads."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"


def streamed_bytes(weight_bytes: float, flops: float) -> float:
    """Tell how many of an operator's weight bytes it streams: all or none, see `STREAMING_FLOPS_PER_BYTE`.

    Args:
        weight_bytes: size of the operator's weights.
        flops: its floating-point operations in an inference; a multiply-add counts as two.
    """
    return weight_bytes if flops < STREAMING_FLOPS_PER_BYTE * weight_bytes else 0.0


def constant_names() -> tuple[str, ...]:
    """List the constants that every profile has. Each needs a provenance, as do the optional ones that are set."""
    others = {"name", "description", "runtime", "threads", "provenance", *_LEFT_OUT}
    own = [item.name for item in fields(Profile) if item.name not in others]
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
        if name_or_path in NOT_PREDICTED:
            raise UsageError(f"'{name_or_path}' cannot be predicted: {NOT_PREDICTED[name_or_path]}")
        if name_or_path not in names():
            known = ", ".join(names())
            raise UsageError(f"no profile is called '{name_or_path}'; choose {known}, or give a .json file")
        shipped = resources.files("sectum.enclave") / "profiles" / f"{name_or_path}.json"
        return parse(shipped.read_bytes(), f"profile '{name_or_path}'")
    path = Path(name_or_path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ArtefactInvalid(f"{path} cannot be read ({error.strerror}); give a profile's .json") from error
    return parse(data, str(path))


def parse(data: bytes, origin: str) -> Profile:
    """Make a profile from the bytes of its file; ``origin`` names the file in errors.

    Raises:
        ArtefactInvalid: the bytes are not a profile of this schema; the message names the first error.
    """
    try:
        return _from_content(read_json(data))
    except ArtefactInvalid as error:
        raise ArtefactInvalid(f"{origin}: {error}") from error


def _from_content(content: object) -> Profile:
    required = {"schema", *(item.name for item in fields(Profile))} - _LEFT_OUT.keys()
    document = json_object(content, "the file", required, _LEFT_OUT)
    if document.pop("schema") != SCHEMA:
        raise ArtefactInvalid(f"its schema is not '{SCHEMA}', the only one that this version reads")
    threads = json_object(document.pop("threads"), "threads", {item.name for item in fields(ThreadModel)})
    origins = json_object(document.pop("provenance"), "provenance", constant_names(), _OPTIONAL)
    provenance = {
        name: Provenance(**json_object(origin, f"provenance of {name}", {"kind", "source"}, {"doi", "date"}))
        for name, origin in origins.items()
    }
    return Profile(**document, threads=ThreadModel(**threads), provenance=provenance)


def _extra_threads(threads: int) -> int:
    if threads < 1:
        raise UsageError(f"threads is {threads}; give 1 or more")
    return threads - 1
