"""A local gateway from the Open Inference Protocol (v2, gRPC) to the service, for existing clients of that protocol."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from sectum import __version__
from sectum.hetee.client.inputs import IMAGENET
from sectum.hetee.client.open_inference_messages import METHODS, SERVICE, message
from sectum.hetee.client.reconnecting_session import ReconnectingSession
from sectum.hetee.data_plane.messages import Slot
from sectum.hetee.errors import EvidenceRefused, HeteeError, PolicyRefused, Refusal, WorkRefused, refusal

_INFERENCES = 64  # at a time, waiting ones included
_OTHERS = 8  # threads for calls that wait for nothing
_LONGEST_S = 600.0
_MESSAGE_BYTES = 512 << 20
# The protocol's datatypes: our dtype, and the field that holds the values if they are not sent raw.
_DATATYPES = {
    "BOOL": ("bool", "bool_contents"),
    "UINT8": ("uint8", "uint_contents"),
    "UINT16": ("uint16", "uint_contents"),
    "UINT32": ("uint32", "uint_contents"),
    "UINT64": ("uint64", "uint64_contents"),
    "INT8": ("int8", "int_contents"),
    "INT16": ("int16", "int_contents"),
    "INT32": ("int32", "int_contents"),
    "INT64": ("int64", "int64_contents"),
    "FP16": ("float16", ""),
    "BF16": ("bfloat16", ""),
    "FP32": ("float32", "fp32_contents"),
    "FP64": ("float64", "fp64_contents"),
    "BYTES": ("string", "bytes_contents"),
}
_NAMES = {dtype: datatype for datatype, (dtype, _) in _DATATYPES.items()}
_JPEG = b"\xff\xd8\xff"


def _bad(detail: str) -> HeteeError:
    return refusal(Refusal.INPUT_REFUSED, detail)


def _dtype(name: str) -> Any:
    if name != "bfloat16":
        return np.dtype(name)
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def _elements(data: bytes) -> list[bytes]:
    """The elements of a raw BYTES tensor; each follows its length, four bytes, little-endian."""
    found, at = [], 0
    while at < len(data):
        if at + 4 > len(data):
            raise _bad("a BYTES tensor ends inside a length")
        (n_bytes,) = struct.unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 4 + n_bytes])
        at += 4 + n_bytes
    if at != len(data):
        raise _bad("a BYTES tensor ends inside an element")
    return found


def _input(tensor: Any, raw: bytes | None) -> Any:
    """An input in the form that the client library takes: an array, or a list of JPEG files."""
    if tensor.datatype not in _DATATYPES:
        raise _bad(f"'{tensor.name}' has the datatype {tensor.datatype}; use one of {', '.join(_DATATYPES)}")
    dtype, field = _DATATYPES[tensor.datatype]
    shape = tuple(tensor.shape)
    values = getattr(tensor.contents, field) if field else ()
    if raw is None and not field:
        raise _bad(f"'{tensor.name}' is {tensor.datatype}, which must be sent in raw_input_contents")
    if dtype == "string":
        elements = _elements(raw) if raw is not None else list(values)
        if elements and all(element.startswith(_JPEG) for element in elements):
            return elements
        try:
            array = np.array([element.decode() for element in elements], object)
        except UnicodeDecodeError:
            raise _bad(f"'{tensor.name}' holds elements that are neither JPEG files nor UTF-8 text") from None
    elif raw is not None:
        if len(raw) % _dtype(dtype).itemsize:
            raise _bad(f"'{tensor.name}' has {len(raw)} bytes, not a multiple of the size of {tensor.datatype}")
        array = np.frombuffer(raw, _dtype(dtype))
    else:
        try:
            array = np.array(list(values), _dtype(dtype))
        except OverflowError:
            raise _bad(f"'{tensor.name}' holds numbers out of the range of {tensor.datatype}") from None
    if min(shape, default=0) < 0 or array.size != np.prod(shape, dtype=object):
        raise _bad(f"'{tensor.name}' has {array.size} elements, its shape is {list(shape)}")
    try:
        return array.reshape(shape)
    except ValueError:
        raise _bad(f"'{tensor.name}' has the impossible shape {list(shape)}") from None


def _output(name: str, array: NDArray[Any]) -> tuple[Any, bytes]:
    dtype = "string" if array.dtype == object else array.dtype.name
    if dtype not in _NAMES:
        raise refusal(
            Refusal.COMPUTE_FAILED, f"the output '{name}' is {dtype}, which the Open Inference Protocol does not have"
        )
    described = message("InferTensor")(name=name, datatype=_NAMES[dtype], shape=array.shape)
    if dtype != "string":
        return described, array.tobytes()
    texts = [text.encode() for text in array.reshape(-1)]
    return described, b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _metadata(slot: Slot) -> Any:
    shape = [size if isinstance(size, int) else -1 for size in slot.shape]
    return message("TensorMetadata")(name=slot.name, datatype=_NAMES.get(slot.dtype, slot.dtype), shape=shape)


class _Service:
    """Implements the methods of the protocol."""

    def __init__(self, session: ReconnectingSession) -> None:
        self._session = session
        self._places = threading.BoundedSemaphore(_INFERENCES)

    def server_live(self, _request: Any, _context: Any) -> Any:
        return message("ServerLiveResponse")(live=True)

    def server_ready(self, _request: Any, _context: Any) -> Any:
        return message("ServerReadyResponse")(ready=True)

    def server_metadata(self, _request: Any, _context: Any) -> Any:
        return message("ServerMetadataResponse")(name="sectum", version=__version__)

    def model_ready(self, request: Any, _context: Any) -> Any:
        self._version(request.version)
        try:
            self._session.model(request.name)
        except WorkRefused:
            return message("ModelReadyResponse")(ready=False)
        return message("ModelReadyResponse")(ready=True)

    def model_metadata(self, request: Any, _context: Any) -> Any:
        self._version(request.version)
        model = self._session.model(request.name)
        return message("ModelMetadataResponse")(
            name=request.name,
            versions=["1"],
            platform="onnx_onnxv1",
            inputs=[_metadata(slot) for slot in model.inputs],
            outputs=[_metadata(slot) for slot in model.outputs],
        )

    def model_infer(self, request: Any, context: Any) -> Any:
        # So that threads are left for calls about health, whatever inferences take.
        if not self._places.acquire(blocking=False):
            raise refusal(Refusal.BUSY, f"{_INFERENCES} inferences are in progress, the limit")
        try:
            return self._infer(request, context)
        finally:
            self._places.release()

    def _infer(self, request: Any, context: Any) -> Any:
        def sent(cancel: Callable[[], None]) -> None:
            if not context.add_callback(cancel):  # the caller has given up meanwhile
                cancel()

        self._version(request.model_version)
        raw = list(request.raw_input_contents)
        if raw and len(raw) != len(request.inputs):
            raise _bad(f"{len(raw)} raw contents for {len(request.inputs)} inputs")
        self._session.model(request.model_name)
        inputs = {
            tensor.name: _input(tensor, raw[number] if raw else None) for number, tensor in enumerate(request.inputs)
        }
        images = any(isinstance(value, list) for value in inputs.values())
        wanted = tuple(output.name for output in request.outputs)
        left_s = context.time_remaining()
        limited = left_s is not None and left_s < _LONGEST_S
        options = {"deadline_ms": max(1, int(1e3 * left_s))} if limited else {}
        pixels = IMAGENET if images else None
        result = self._session.infer(request.model_name, inputs, wanted, sent=sent, pixels=pixels, **options)
        described = [_output(name, array) for name, array in result.outputs.items()]
        return message("ModelInferResponse")(
            model_name=request.model_name,
            model_version="1",
            id=request.id,
            outputs=[tensor for tensor, _ in described],
            raw_output_contents=[data for _, data in described],
        )

    @staticmethod
    def _version(version: str) -> None:
        if version not in ("", "1"):
            raise refusal(Refusal.NO_MODEL, f"there is no version '{version[:20]}' of a model: use 1, or leave it out")


def _status(error: HeteeError) -> grpc.StatusCode:
    if error.code is Refusal.NO_MODEL:
        return grpc.StatusCode.NOT_FOUND
    if error.code is Refusal.BUSY:
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    if error.code is Refusal.DEADLINE:
        return grpc.StatusCode.DEADLINE_EXCEEDED
    if error.code is Refusal.CANCELLED:
        return grpc.StatusCode.CANCELLED
    if isinstance(error, WorkRefused):
        return grpc.StatusCode.INVALID_ARGUMENT
    if isinstance(error, EvidenceRefused | PolicyRefused):
        return grpc.StatusCode.FAILED_PRECONDITION
    return grpc.StatusCode.UNAVAILABLE


def _handler(answer: Callable[[Any, Any], Any], name: str) -> grpc.RpcMethodHandler:
    def handle(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return answer(request, context)
        except HeteeError as error:
            context.abort(_status(error), str(error))

    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=message(f"{name}Request").FromString,
        response_serializer=message(f"{name}Response").SerializeToString,
    )


class OpenInferenceGateway:
    """Serves the protocol on 127.0.0.1, in a ``with`` statement.

    Args:
        session: session with the confidential service.
        port: port to listen on; 0 for any free one.

    Raises:
        ServiceRefused: the port is in use.
    """

    def __init__(self, session: ReconnectingSession, port: int) -> None:
        service = _Service(session)
        names = {name: "".join(f"_{ch.lower()}" if ch.isupper() else ch for ch in name)[1:] for name in METHODS}
        handlers = {name: _handler(getattr(service, method), name) for name, method in names.items()}
        limits = [("grpc.max_receive_message_length", _MESSAGE_BYTES), ("grpc.max_send_message_length", _MESSAGE_BYTES)]
        # Without so_reuseport=0, a second gateway on the same port would take some of the first one's requests.
        self._server = grpc.server(
            ThreadPoolExecutor(_INFERENCES + _OTHERS), options=[*limits, ("grpc.so_reuseport", 0)]
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        try:
            self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        except RuntimeError:
            raise refusal(Refusal.INTERNAL, f"cannot listen on 127.0.0.1:{port}: use another --port") from None

    def __enter__(self) -> OpenInferenceGateway:
        self._server.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._server.stop(1.0).wait()

    def wait(self) -> None:
        """Block until the process is told to end."""
        self._server.wait_for_termination()
