"""From an estimated working set to the probability that the real one is larger than the EPC."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sectum.errors import ArtefactInvalid, UsageError

FEWEST = 20
"""Validation networks that a calibration needs."""

_MOST_STORED = 400
_LOGISTIC_SIGMA = math.pi / math.sqrt(3)
_IQR_OF_NORMAL = 1.349


@dataclass(frozen=True)
class ErrorDistribution:
    """Errors of estimates on held-out networks; no shape of their distribution is assumed.

    An error is log(measured / estimated), in units of the scale that the estimate came with. The probability that a
    working set is larger than an EPC is the share of errors that would make it so. Each error is smoothed by a logistic
    kernel; one more, spread over all of them, stands for errors that were not seen. The probability always falls as the
    EPC grows.

    Attributes:
        errors: sorted, shape ``(errors,)``.
        seen: number of validation networks.
        bandwidth: of the kernel, in the same unit.
    """

    errors: NDArray[np.float64]
    seen: int
    bandwidth: float

    @classmethod
    def fit(cls, errors: ArrayLike) -> ErrorDistribution:
        """Take the errors of validation networks, in units of each estimate's scale.

        Raises:
            UsageError: too few.
        """
        found = np.sort(np.asarray(errors, dtype=np.float64))
        if len(found) < FEWEST:
            raise UsageError(f"{len(found)} validation networks: calibrating takes {FEWEST} or more")
        spread = float(np.subtract(*np.quantile(found, [0.75, 0.25]))) / _IQR_OF_NORMAL
        # Silverman's rule; a floor of a page in a thousand, where all errors are the same.
        bandwidth = max(0.9 * spread * len(found) ** -0.2 / _LOGISTIC_SIGMA, 1e-4)
        if len(found) <= _MOST_STORED:
            return cls(found, len(found), bandwidth)
        ranks = (np.arange(_MOST_STORED) + 0.5) / _MOST_STORED
        return cls(np.quantile(found, ranks), len(found), bandwidth)

    def probability(self, log_ratio: ArrayLike, scale: ArrayLike) -> NDArray[np.float64]:
        """Probability of being over-committed.

        Args:
            log_ratio: log(estimated working set / EPC).
            scale: that each estimate came with; the shape of both gives that of the result.
        """
        limit = -np.asarray(log_ratio, dtype=np.float64) / np.asarray(scale, dtype=np.float64)
        beyond = _logistic((self.errors - limit[..., None]) / self.bandwidth).mean(axis=-1)
        middle = float(np.median(self.errors))
        widest = max(float(np.abs(self.errors - middle).max()), self.bandwidth)
        unseen = _logistic((middle - limit) / widest)
        result: NDArray[np.float64] = (self.seen * beyond + unseen) / (self.seen + 1)
        return result

    def factor(self, scale: ArrayLike, probability: float = 0.5) -> NDArray[np.float64]:
        """Estimate times this factor: the size below which the working set lies with that probability."""
        result: NDArray[np.float64] = np.exp(np.asarray(scale) * float(np.quantile(self.errors, probability)))
        return result

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {"errors": [round(float(e), 6) for e in self.errors], "seen": self.seen, "bandwidth": self.bandwidth}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ErrorDistribution:
        """Read what `to_json` wrote.

        Raises:
            ArtefactInvalid: it is something else.
        """
        try:
            errors = np.array([float(e) for e in _sequence(stored["errors"])])
            made = cls(errors, int(stored["seen"]), float(stored["bandwidth"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ArtefactInvalid(f"a detector's calibration: {error!r}; train it again or reinstall Sectum") from error
        if not (len(errors) and np.isfinite(errors).all() and made.seen > 0 and 0 < made.bandwidth < math.inf):
            raise ArtefactInvalid("a detector's calibration has no errors or impossible ones; reinstall Sectum")
        return made


def _sequence(value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise TypeError("errors are no list")
    return value


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 0.5 * (1 + np.tanh(x / 2))
    return result
