"""Loaded models and results, as the caller gets them."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sectum.hetee.data_plane.messages import Slot, Tensor
from sectum.hetee.data_plane.receipts import Receipt
from sectum.hetee.data_plane.tensors import layout
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.messages import Vouch


@dataclass(frozen=True)
class LoadedModel:
    """A model that an enclave has loaded.

    Attributes:
        digest: SHA-256 of the file, 32 bytes.
        inputs: name, dtype and shape of each input; a dimension is a number, or a text if it is not fixed.
        outputs: the same for each output.
        load_ms: time that loading took.
    """

    digest: bytes
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    load_ms: float


class ReceiptParts(NamedTuple):
    """A verified receipt and what belongs to it: the token, the enclave's VOUCH, the payloads of BATCH and RESULT."""

    receipt: Receipt
    token: bytes
    vouch: Vouch
    stream: int
    request: bytes
    result: bytes
    accepted_s: int


@dataclass(frozen=True)
class Result:
    """The answer to one batch.

    Attributes:
        outputs: arrays by name.
        paced: whether the accelerator waited for a published time instead of computing; then the outputs are zeros.
        elapsed_ms: time from the first byte sent until the outputs were complete, as measured by the client.
        encryption_ms: the part of it that the client spent sealing and opening.
        signed: gets the verified receipt with what belongs to it, or an error.
    """

    outputs: dict[str, NDArray[Any]]
    paced: bool
    elapsed_ms: float
    encryption_ms: float
    signed: Future[ReceiptParts] = field(repr=False, compare=False)

    @property
    def receipt(self) -> Receipt:
        """What the worker signed: model, measurement, time of each step, paced or real.

        The receipt comes just after the outputs, which are authentic without it; this property waits for it. A receipt
        that is not genuine ends the session.

        Raises:
            HeteeError: the receipt is not genuine, or the worker was lost before it came.
        """
        return self.signed.result().receipt


def arrays(tensors: tuple[Tensor, ...], data: memoryview) -> dict[str, NDArray[Any]]:
    """The arrays of a result, as views of the memory that they were opened into.

    Raises:
        MessageRefused: ``BAD_TENSOR``, the tensors contradict each other or the data.
    """
    found: dict[str, NDArray[Any]] = {}
    for place in layout(tensors, len(data)):
        tensor = place.tensor
        if tensor.name in found:
            raise refusal(Refusal.BAD_TENSOR, f"two outputs are called '{tensor.name[:40]}'")
        if tensor.encoding == "jpeg":
            raise refusal(Refusal.BAD_TENSOR, "an output is encoded as JPEG")
        if tensor.encoding == "utf8":
            found[tensor.name] = _texts(tensor, data, place.begin, place.ends)
        else:
            found[tensor.name] = np.frombuffer(data[place.begin : place.end], _dtype(tensor.dtype)).reshape(
                tensor.shape
            )
    return found


def _dtype(name: str) -> Any:
    if name != "bfloat16":
        return name
    import ml_dtypes

    return ml_dtypes.bfloat16


def _texts(tensor: Tensor, data: memoryview, begin: int, ends: tuple[int, ...]) -> NDArray[Any]:
    found = np.empty(len(ends), object)
    for number, (start, end) in enumerate(zip((begin, *ends), ends, strict=False)):
        try:
            found[number] = bytes(data[start:end]).decode()
        except UnicodeDecodeError:
            raise refusal(Refusal.BAD_TENSOR, "an output holds text that is not UTF-8") from None
    return found.reshape(tensor.shape)
