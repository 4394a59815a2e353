"""Every error that Sectum raises on purpose.

Each leaf has an exit code, which the command line returns, and a message that says what happened, what was
expected and what to do::

    SectumError                     1   never raised itself
    ├── UsageError                  2   an argument is wrong
    ├── ModelError                      the model cannot be used
    │   ├── ModelUnreadable        10   the file is missing or cannot be read
    │   ├── ModelMalformed         11   not a valid ONNX model
    │   ├── ModelTooLarge          12   exceeds a limit on memory or time
    │   ├── ModelUnsafe            13   refers to a file outside its own folder
    │   ├── ShapeUnbound           14   dimensions without a value
    │   ├── ShapeInconsistent      15   shapes or types that contradict each other
    │   ├── OperatorUnsupported    16   a loop or another operator that is not modelled, or any such under --strict
    │   ├── UnknownNetwork         17   no network of that name in the zoo
    │   └── RuntimeRefused         18   ONNX Runtime refuses the model
    ├── EnclaveError                    the model cannot run in the enclave
    │   ├── EnclaveUnavailable     20   the machine lacks something; the message says how to get it
    │   ├── EnclaveTampered        21   protected memory was changed or replayed outside the enclave
    │   ├── EnclaveFailed          22   the enclave's process died, or exceeded its memory limit
    │   ├── EnclaveDeadline        23   the enclave's process exceeded its deadline
    │   └── OutputsDiffer          24   the enclave's outputs differ from the native run's
    ├── ArtefactError                   a stored file cannot be used
    │   ├── ArtefactInvalid        30   damaged, or of another schema
    │   ├── CalibrationInvalid     31   the stored calibration cannot be used
    │   ├── DatasetInvalid         32   a stored dataset is damaged, empty or of another format
    │   └── DatasetBusy            33   another process is collecting into the dataset
    ├── SearchError                     a search has no answer
    │   ├── SpaceInvalid           50   the search space is malformed, contradictory or empty
    │   ├── BoundNotMet            51   no architecture is predicted under the bound
    │   └── ObjectiveFailed        52   the objective gave no score to any architecture
    └── JobPreempted               53   a job gave its accelerators back to a session

The confidential inference service adds 40 to 49, in `sectum.hetee.errors`. Ctrl-C ends a command with 130.
"""

from __future__ import annotations

from typing import ClassVar


class SectumError(Exception):
    """Root of the tree."""

    exit_code: ClassVar[int] = 1


class UsageError(SectumError):
    """An argument is wrong."""

    exit_code = 2


class ModelError(SectumError):
    """The model cannot be used."""


class ModelUnreadable(ModelError):
    """The model's file is missing or cannot be read."""

    exit_code = 10


class ModelMalformed(ModelError):
    """The file is not a valid ONNX model."""

    exit_code = 11


class ModelTooLarge(ModelError):
    """The model exceeds a limit on memory or time."""

    exit_code = 12


class ModelUnsafe(ModelError):
    """The model refers to a file outside its own folder."""

    exit_code = 13


class ShapeUnbound(ModelError):
    """Some dimensions have no value."""

    exit_code = 14


class ShapeInconsistent(ModelError):
    """Shapes or types contradict each other."""

    exit_code = 15


class OperatorUnsupported(ModelError):
    """An operator is not modelled: a loop, classical machine learning or, under --strict, one unlike those measured."""

    exit_code = 16


class UnknownNetwork(ModelError):
    """The zoo has no network of that name."""

    exit_code = 17


class RuntimeRefused(ModelError):
    """ONNX Runtime refuses the model."""

    exit_code = 18


class EnclaveError(SectumError):
    """The model cannot run in the enclave."""


class EnclaveUnavailable(EnclaveError):
    """Something that the enclave needs is missing on this machine."""

    exit_code = 20


class EnclaveTampered(EnclaveError):
    """Protected memory was changed or replayed outside the enclave."""

    exit_code = 21


class EnclaveFailed(EnclaveError):
    """The enclave's process died, or exceeded its memory limit."""

    exit_code = 22


class EnclaveDeadline(EnclaveError):
    """The enclave's process exceeded its deadline."""

    exit_code = 23


class OutputsDiffer(EnclaveError):
    """The enclave's outputs differ from the native run's."""

    exit_code = 24


class ArtefactError(SectumError):
    """A stored file cannot be used."""


class ArtefactInvalid(ArtefactError):
    """A stored artefact is damaged, or of another schema."""

    exit_code = 30


class CalibrationInvalid(ArtefactError):
    """The stored calibration cannot be used."""

    exit_code = 31


class DatasetInvalid(ArtefactError):
    """A stored dataset is damaged, empty or of another format."""

    exit_code = 32


class DatasetBusy(ArtefactError):
    """Another process is collecting into the dataset."""

    exit_code = 33


class SearchError(SectumError):
    """A search has no answer."""


class SpaceInvalid(SearchError):
    """The search space is malformed, contradictory or empty."""

    exit_code = 50


class BoundNotMet(SearchError):
    """No architecture is predicted under the bound; the message names the nearest."""

    exit_code = 51


class ObjectiveFailed(SearchError):
    """The objective gave no score to any architecture under the bound."""

    exit_code = 52


class JobPreempted(SectumError):
    """A job gave its accelerators back, because a session of higher priority or another job waited for them."""

    exit_code = 53
