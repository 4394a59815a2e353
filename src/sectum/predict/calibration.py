"""What was measured on the machine at hand, so that predictions are in its milliseconds."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sectum.enclave.profile import Profile, streamed_bytes
from sectum.enclave.profile_kinds import GUESTS
from sectum.enclave.profile_parts import Provenance
from sectum.errors import CalibrationInvalid
from sectum.measure.reference import References
from sectum.ort.cpu import Cpu
from sectum.predict.features import OperatorFeatures, schema_hash

T = TypeVar("T")

_FORMAT = 4
_MAX_BYTES = 1 << 20
_PRODUCTS, INT8_PRODUCTS = "gemm", "int8 product"
_OF_FEW_ROWS = "{} of few rows"
STREAMED_PRODUCTS, STREAMED_INT8_PRODUCTS = map(_OF_FEW_ROWS.format, (_PRODUCTS, INT8_PRODUCTS))
_INT8_TYPES = frozenset({
    "QLinearMatMul", "MatMulInteger", "com.microsoft:MatMulIntegerToFloat", "com.microsoft:DynamicQuantizeMatMul",
    "com.microsoft:QGemm",
})  # fmt: skip
"""Without a variant these multiply unsigned by signed bytes, which a processor may have instructions of its own for."""
_MUCH_VARIATION = 0.05
"""The interval of a usual network, about 7 % on each side, becomes a half wider."""


@dataclass(frozen=True, slots=True)
class PageCosts:
    """What the software EPC costs on this machine with one number of threads.

    Attributes:
        swap_us: one page evicted and one loaded, with the fault that caused it.
        minor_fault_us: a page mapped again.
    """

    swap_us: float
    minor_fault_us: float


@dataclass(frozen=True)
class Calibration:
    """One machine, measured.

    Attributes:
        machine: the machine in words.
        cpu: its kind of CPU.
        references: its typical times of the reference kernels.
        group_factors: by number of threads and group of operators, see `groups_of`: measured time over predicted, both
            over the GEMM reference kernel; 1 where the shipped operator models hold unchanged.
        variation: by number of threads, coefficient of variation of a network's time from one round of the calibration
            to the next.
        page_costs: of the software EPC, by number of threads; empty where the machine cannot run it.
        context: versions, date, processor: where the numbers come from.
    """

    machine: str
    cpu: Cpu
    references: References
    group_factors: Mapping[int, Mapping[str, float]]
    variation: Mapping[int, float]
    page_costs: Mapping[int, PageCosts]
    context: Mapping[str, Any]

    @property
    def tee(self) -> str:
        """The kind of confidential machine that was calibrated from inside, a key of `GUESTS`; empty for any other."""
        found = str(self.context.get("tee", ""))
        return found if found in GUESTS else ""

    def note_on_variation(self, threads: int) -> str:
        """What to say where this machine's own times varied so much that intervals are clearly wider; empty if not."""
        of = nearest(self.variation, threads)
        if of < _MUCH_VARIATION:
            return ""
        return (
            f"the same inferences differed by {of:.0%} (one standard deviation) from minute to minute while this "
            "machine was calibrated, as beside others on a shared processor; the interval counts that"
        )

    def factors(self, features: OperatorFeatures, threads: int) -> NDArray[np.float64]:
        """Correction of each operator's time; shape ``(operators,)``."""
        by_group = nearest(self.group_factors, threads)
        return np.array([by_group.get(group, 1.0) for group in groups_of(features)])

    def softepc(self, profile: Profile, threads: int) -> Profile:
        """The profile with this machine's own page costs, where they were measured."""
        if not self.page_costs:
            return profile
        costs = nearest(self.page_costs, threads)
        return profile.with_constants(
            Provenance("measured", f"sectum calibrate, {self.context.get('date', 'undated')}"),
            load_us=costs.swap_us / 2,
            evict_us=costs.swap_us / 2,
            minor_fault_us=costs.minor_fault_us,
        ).measured_with(self.page_costs)

    def to_json(self) -> dict[str, Any]:
        """The calibration as JSON types."""
        values = asdict(self)
        cpu = values.pop("cpu")
        return {"nchwc_block": cpu.nchwc_block, "amx": cpu.amx, **values}

    def store(self, path: Path | None = None) -> Path:
        """Write it where :func:`load` finds it; a crash leaves the old one whole."""
        path = path or default_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        content = {"format": _FORMAT, "schema_sha256": schema_hash(), **self.to_json()}
        partial.write_text(json.dumps(content, indent=1, allow_nan=False))
        partial.replace(path)
        return path


def groups_of(features: OperatorFeatures) -> tuple[str, ...]:
    """What each operator is corrected with: its kind, and whether a matrix product uses each weight only a few times.

    Such a product, as a dense layer for one image, is as fast as the memory; others are as fast as the arithmetic.
    Products of unsigned by signed bytes are apart from other quantised operators: AMX computes them, and nothing else.
    """
    groups = (
        INT8_PRODUCTS if name in _INT8_TYPES else kind
        for name, kind in zip(features.types, features.kinds, strict=True)
    )
    return tuple(
        _OF_FEW_ROWS.format(group)
        if group in (_PRODUCTS, INT8_PRODUCTS) and streamed_bytes(cost.weight_bytes, cost.flops)
        else group
        for group, cost in zip(groups, features.costs, strict=True)
    )


def nearest(by_threads: Mapping[int, T], threads: int) -> T:
    """The entry for the largest number of threads not above ``threads``, or the smallest there is."""
    return by_threads[max((n for n in by_threads if n <= threads), default=min(by_threads))]


def default_path() -> Path:
    """Where the calibration of this machine is kept: ``$SECTUM_HOME`` or the user's data folder."""
    home = os.environ.get("SECTUM_HOME")
    if home:
        return Path(home) / "calibration.json"
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "sectum" / "calibration.json"


def load(path: Path | None = None) -> Calibration | None:
    """Read the stored calibration; None where there is none.

    Raises:
        CalibrationInvalid: it is damaged, or was made for other operator models.
    """
    path = path or default_path()
    remedy = f"run 'sectum calibrate' again, or delete {path}"
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CalibrationInvalid(f"{path}: {error.strerror}; {remedy}") from error
    try:
        data = json.loads(content)
        if data["format"] != _FORMAT or data["schema_sha256"] != schema_hash():
            raise CalibrationInvalid(f"{path} was made by another version of Sectum; {remedy}")
        calibration = Calibration(
            machine=str(data["machine"]),
            cpu=Cpu.of_block(int(data["nchwc_block"]), amx=data.get("amx", False) is True),
            references=References(**{key: _positive(value) for key, value in data["references"].items()}),
            group_factors={
                int(n): {str(group): _positive(factor) for group, factor in factors.items()}
                for n, factors in data["group_factors"].items()
            },
            variation={int(n): _positive(value) for n, value in data["variation"].items()},
            page_costs={
                int(n): PageCosts(**{key: _positive(value) for key, value in costs.items()})
                for n, costs in data["page_costs"].items()
            },
            context=dict(data["context"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CalibrationInvalid(f"{path} is damaged ({error!r}); {remedy}") from error
    if not (calibration.references.products_ms and calibration.group_factors and calibration.variation):
        raise CalibrationInvalid(f"{path} is empty; {remedy}")
    return calibration


def stored_references() -> References | None:
    """Typical times of the reference kernels on this machine; None where it was not calibrated.

    Raises:
        CalibrationInvalid: as :func:`load`.
    """
    calibration = load()
    return None if calibration is None else calibration.references


def uncalibrated_note(machine: str) -> str:
    """What to say where predictions are in the milliseconds of another machine."""
    return f"not calibrated; times are those of {machine}. Run 'sectum calibrate' to predict those of this machine"


def _positive(value: object) -> float:
    number = float(value)  # type: ignore[arg-type]
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{value!r} is no finite positive number")
    return number
