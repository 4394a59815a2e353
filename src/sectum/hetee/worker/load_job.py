"""One model in the worker that is to be loaded."""

from __future__ import annotations

from dataclasses import dataclass

from sectum.hetee.data_plane.messages import CodeFormat


@dataclass(eq=False)
class LoadJob:
    """A model that was received and is to be loaded.

    Attributes:
        stream: stream of its CODE.
        content: the ONNX file.
        sha256: SHA-256 of ``content``, as the client named it.
        begun_ns: when its last byte arrived, on the clock of `time.perf_counter_ns`.
        format: what it is, as its CODE says.
    """

    stream: int
    content: bytes
    sha256: bytes
    begun_ns: int
    format: CodeFormat = "onnx"
