"""A protobuf file with what bounds its reading: what the parsers of all ONNX messages share."""

from __future__ import annotations

from sectum.errors import ModelMalformed, ModelTooLarge
from sectum.graph.limits import Limits
from sectum.graph.protobuf import BYTES, Buffer, FieldBudget, fields

Span = tuple[int, int]
"""Where something lies in the file: its first byte, and the byte after its last."""


class MessageReader:
    """One file, its limits, and how much of them is used up.

    Args:
        buf: the file.
        limits: what it may ask for.
    """

    def __init__(self, buf: Buffer, limits: Limits) -> None:
        self.buf = buf
        self.limits = limits
        self.budget = FieldBudget(limits.fields)
        self._tensors = 0

    def count_tensor(self) -> None:
        """Count a constant tensor.

        Raises:
            ModelTooLarge: over the limit.
        """
        self._tensors += 1
        if self._tensors > self.limits.tensors:
            raise ModelTooLarge(
                f"the model has more than {self.limits.tensors} constant tensors; check its source or raise "
                "Limits.tensors"
            )

    def text(self, start: int, stop: int) -> str:
        """UTF-8 text in ``buf[start:stop]``.

        Raises:
            ModelMalformed: it is no UTF-8.
            ModelTooLarge: over the limit.
        """
        if stop - start > self.limits.text_bytes:
            raise ModelTooLarge(f"a name at byte {start} is longer than {self.limits.text_bytes} bytes")
        try:
            return self.buf[start:stop].decode()
        except UnicodeDecodeError:
            raise ModelMalformed(
                f"a name at byte {start} is not UTF-8 text: the file is damaged or no ONNX model"
            ) from None

    def two_texts(self, start: int, stop: int, first: int, second: int) -> tuple[str, str]:
        """Texts in two fields of a message, by their numbers; empty where there are none."""
        found = {first: "", second: ""}
        for number, kind, a, b in fields(self.buf, start, stop, self.budget):
            if number in found and kind == BYTES:
                found[number] = self.text(a, b)
        return found[first], found[second]

    @staticmethod
    def expect(condition: bool, what: str) -> None:
        """Raise ModelMalformed unless the condition holds."""
        if not condition:
            raise ModelMalformed(f"{what} is encoded wrongly: the file is damaged or no ONNX model")
