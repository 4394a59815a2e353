"""Fit the constants of the profiles ``sgx1`` and ``sgx2`` to published measurements.

The measurements are medians of 100 runs by Lutsch et al., "Benchmarking the Second Generation of Intel SGX
for Machine Learning Workloads", BTW 2023, doi 10.18420/BTW2023-44: four networks, batch 1 and 4, one and four
threads, in an enclave and outside on the same host. `data/sgx-measurements.csv` holds them.

The form is that of `Profile.in_enclave_ms`; page faults come from the page-replacement model, run on the
layer trace of each network. The fit minimises the mean absolute relative error, which is also the error that is
reported. Every constant is bounded by its meaning: computing is not faster inside, and no cost is negative.

Run ``python -m sectum.lab.sgx --markdown`` for the report.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.enclave.profile import Profile, load
from sectum.enclave.profile_parts import ThreadModel
from sectum.extras import require
from sectum.lab.sgx.networks import streamed_bytes, trace
from sectum.paging.replacement import PagingCounts, steady_state

PLATFORMS = {"sgx1": "SGXv1 Xeon E-2288G", "sgx2": "SGXv2 2x Xeon Gold 6326"}
_DIGITS = 4  # of a fitted constant, as the profiles store it


@dataclass(frozen=True, slots=True)
class PublishedTimes:
    """One row of the data: medians, and where they were taken."""

    platform: str
    model: str
    threads: int
    batch: int
    enclave_ms: float
    native_ms: float


@dataclass(frozen=True, slots=True)
class FittedTimes:
    """A measurement beside what the fit says: of all rows, and of the rows of the other networks only."""

    measurement: PublishedTimes
    in_sample_ms: float
    held_out_ms: float

    @property
    def in_sample_error(self) -> float:
        """Signed relative error of the fit that has seen this network."""
        return self.in_sample_ms / self.measurement.enclave_ms - 1

    @property
    def held_out_error(self) -> float:
        """Signed relative error of the fit that has not seen this network."""
        return self.held_out_ms / self.measurement.enclave_ms - 1


def measurements() -> tuple[PublishedTimes, ...]:
    """Read the published measurements."""
    source = resources.files("sectum.lab.sgx") / "data" / "sgx-measurements.csv"
    with source.open(encoding="utf-8") as file:
        return tuple(
            PublishedTimes(
                platform=row["platform"],
                model=row["model"],
                threads=int(row["threads"]),
                batch=int(row["batch"]),
                enclave_ms=float(row["enclave_ms_median"]),
                native_ms=float(row["native_ms_median"]),
            )
            for row in csv.DictReader(file)
        )


@cache
def _paging(model: str, batch: int, epc_pages: int) -> PagingCounts:
    return steady_state(trace(model, batch), epc_pages)


def predicted_ms(profile: Profile, row: PublishedTimes) -> float:
    """Time in the enclave, in milliseconds, that the profile gives for a measured row's native time."""
    assert profile.epc_pages is not None
    counts = _paging(row.model, row.batch, profile.epc_pages)
    streamed = streamed_bytes(row.model, row.batch)
    return profile.in_enclave_ms(row.native_ms, streamed, counts, row.threads).total_ms


Solver = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def fitted_profile(name: str, without: str | None = None, solver: Solver | None = None) -> Profile:
    """Take the shipped profile, and fit its constants anew.

    The constants for one thread are fitted to the rows with one thread; what further threads add, to the
    others. ``sgx2`` did not page in the measurements, so a swap costs what it costs on ``sgx1``.

    Args:
        name: ``sgx1`` or ``sgx2``.
        without: a network whose rows are left out.
        solver: what is minimised, `least_absolute` by default.
    """
    rows = [r for r in measurements() if r.platform == PLATFORMS[name] and r.model != without]
    bare = replace(
        load(name),
        compute_factor=1.0,
        stream_ns_per_byte=0.0,
        load_us=0.0,
        evict_us=0.0,
        threads=ThreadModel(),
    )
    single = [row for row in rows if row.threads == 1]
    # Each constant's part of the time is linear in it, so a profile with the constant at 1 gives its column.
    compute, stream, swap_us = _fit(
        bare,
        [
            replace(bare, compute_factor=2.0),
            replace(bare, stream_ns_per_byte=1.0),
            replace(bare, load_us=0.5, evict_us=0.5),
        ],
        single,
        solver or least_absolute,
    )
    if name == "sgx2":
        swap_us = 2 * fitted_profile("sgx1", without, solver).load_us
    one = replace(
        bare,
        compute_factor=_round(1 + compute),
        stream_ns_per_byte=_round(stream),
        load_us=_round(swap_us / 2),
        evict_us=_round(swap_us / 2),
    )
    units = np.eye(len(fields(ThreadModel))).tolist()
    per_thread = _fit(
        one,
        [replace(one, threads=ThreadModel(*unit)) for unit in units],
        [row for row in rows if row.threads > 1],
        solver or least_absolute,
    )
    return replace(one, threads=ThreadModel(*(_round(value) for value in per_thread)))


def predictions(name: str, solver: Solver | None = None) -> tuple[FittedTimes, ...]:
    """Set each measured row of a platform beside the fit, with its network seen and not seen."""
    rows = [row for row in measurements() if row.platform == PLATFORMS[name]]
    fit = fitted_profile(name, solver=solver)
    held_out = {model: fitted_profile(name, model, solver) for model in sorted({row.model for row in rows})}
    return tuple(FittedTimes(row, predicted_ms(fit, row), predicted_ms(held_out[row.model], row)) for row in rows)


def mape(errors: Iterable[float]) -> float:
    """Mean absolute error, as a share: 0.1 is 10 %."""
    return float(np.mean([abs(error) for error in errors]))


def _fit(
    base: Profile, units: Sequence[Profile], rows: Sequence[PublishedTimes], solver: Solver
) -> NDArray[np.float64]:
    """Find how many units of each constant, 0 or more, make the relative errors smallest in the mean."""
    measured = np.array([row.enclave_ms for row in rows])
    start = np.array([predicted_ms(base, row) for row in rows])
    columns = np.array([[predicted_ms(unit, row) for row in rows] for unit in units]) - start
    return solver(columns.T / measured[:, None], 1 - start / measured)


def least_absolute(matrix: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minimise the sum of ``|matrix @ x - target|`` over ``x >= 0``, by linear programming.

    A constant that no row depends on is 0.

    Args:
        matrix: shape ``(rows, constants)``.
        target: shape ``(rows,)``.

    Returns:
        ``x``, shape ``(constants,)``.

    Raises:
        UsageError: SciPy is not installed.
    """
    rows, constants = matrix.shape
    cost = np.concatenate([np.zeros(constants), np.ones(2 * rows)])  # of what is above each target, and below it
    equal = np.hstack([matrix, -np.eye(rows), np.eye(rows)])
    return np.asarray(_scipy_optimize().linprog(cost, A_eq=equal, b_eq=target).x[:constants])


def least_squares(matrix: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minimise the sum of ``(matrix @ x - target)**2`` over ``x >= 0``; `least_absolute` is compared with it."""
    return np.asarray(_scipy_optimize().nnls(matrix, target)[0])


def _scipy_optimize() -> Any:
    return require("scipy.optimize", "the SGX profiles are fitted by SciPy", "train")


def _round(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
