"""The gateway speaks the Open Inference Protocol as its published clients do."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from hetee_rack import until
from sectum.hetee.client.inputs import IMAGENET
from sectum.hetee.client.open_inference_messages import SERVICE, message
from sectum.hetee.client.results import LoadedModel, Result
from sectum.hetee.data_plane.messages import Slot
from sectum.hetee.errors import Refusal, refusal

grpc = pytest.importorskip("grpc", reason="grpcio, of the extra hetee, is not installed")


class FakeSession:
    """Stands in for a `ReconnectingSession`: records requests and returns their inputs."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.error: Exception | None = None
        self.endless = False
        self.waiting: list[threading.Event] = []
        self.cancelled = threading.Semaphore(0)

    def model(self, name: str) -> LoadedModel:
        if name != "echo":
            raise refusal(Refusal.NO_MODEL, "no such model")
        return LoadedModel(b"", (Slot(name="x", dtype="float32", shape=("N", 2)),), (), 0.0)

    def infer(self, name: str, inputs: dict[str, Any], outputs: tuple[str, ...], **options: Any) -> Result:
        assert name == "echo"
        if self.error is not None:
            raise self.error
        if self.endless:
            over = threading.Event()
            options["sent"](over.set)
            self.waiting.append(over)
            assert over.wait(60)
            self.cancelled.release()
            raise refusal(Refusal.CANCELLED, "the client cancelled it")
        self.asked.append((inputs, options))
        found = {key: value for key, value in inputs.items() if isinstance(value, np.ndarray)}
        return Result({key: found[key] for key in outputs or found}, False, 1.0, 0.0, Future())


@pytest.fixture
def gateway() -> Iterator[tuple[FakeSession, Any]]:
    """A gateway with a fake session, and a gRPC channel to it."""
    from sectum.hetee.client.open_inference_gateway import OpenInferenceGateway

    session = FakeSession()
    with OpenInferenceGateway(session, 0) as opened, grpc.insecure_channel(f"127.0.0.1:{opened.port}") as channel:  # type: ignore[arg-type]

        def call(method: str, request: Any, *, wait: bool = True) -> Any:
            made = channel.unary_unary(
                f"/{SERVICE}/{method}",
                request_serializer=message(f"{method}Request").SerializeToString,
                response_deserializer=message(f"{method}Response").FromString,
            )
            return made(request, timeout=10) if wait else made.future(request, timeout=60)

        yield session, call


def request(raw: list[bytes] | None = None, **tensor: Any) -> Any:
    """An inference of the model ``echo`` with one input."""
    described = message("InferTensor")(**tensor)
    return message("ModelInferRequest")(model_name="echo", id="42", inputs=[described], raw_input_contents=raw or [])


def test_a_server_tells_that_it_lives_and_what_it_has(gateway: tuple[FakeSession, Any]) -> None:
    """Liveness, readiness and metadata of server and model are those of the protocol."""
    _, call = gateway
    assert call("ServerLive", message("ServerLiveRequest")()).live
    assert call("ServerReady", message("ServerReadyRequest")()).ready
    assert call("ServerMetadata", message("ServerMetadataRequest")()).name == "sectum"
    assert call("ModelReady", message("ModelReadyRequest")(name="echo")).ready
    assert not call("ModelReady", message("ModelReadyRequest")(name="other")).ready
    (slot,) = call("ModelMetadata", message("ModelMetadataRequest")(name="echo")).inputs
    assert (slot.name, slot.datatype, list(slot.shape)) == ("x", "FP32", [-1, 2])


@pytest.mark.parametrize(
    ("datatype", "dtype", "field"),
    [
        ("BOOL", "bool", "bool_contents"),
        ("UINT8", "uint8", "uint_contents"),
        ("INT8", "int8", "int_contents"),
        ("UINT32", "uint32", "uint_contents"),
        ("INT64", "int64", "int64_contents"),
        ("UINT64", "uint64", "uint64_contents"),
        ("FP16", "float16", None),
        ("FP32", "float32", "fp32_contents"),
        ("FP64", "float64", "fp64_contents"),
    ],
)
def test_tensors_come_raw_or_typed_and_go_back_raw(
    gateway: tuple[FakeSession, Any], datatype: str, dtype: str, field: str | None
) -> None:
    """Every datatype is understood in both forms of the protocol, and is echoed bit for bit."""
    session, call = gateway
    array = np.array([[1, 0], [1, 1]]).astype(dtype)
    requests = [request([array.tobytes()], name="x", datatype=datatype, shape=array.shape)]
    if field is not None:
        contents = message("InferTensorContents")(**{field: array.reshape(-1).tolist()})
        requests.append(request(name="x", datatype=datatype, shape=array.shape, contents=contents))
    for each in requests:
        answer = call("ModelInfer", each)
        assert (answer.id, answer.model_name) == ("42", "echo")
        assert answer.outputs[0].datatype == datatype
        assert answer.raw_output_contents[0] == array.tobytes()
        np.testing.assert_array_equal(session.asked[-1][0]["x"], array)


def test_jpegs_come_as_bytes(gateway: tuple[FakeSession, Any]) -> None:
    """Elements of BYTES that are JPEG files go on as files; other bytes as texts."""
    session, call = gateway
    for element, files in ((b"\xff\xd8\xff" + b"jpeg", True), (b"text", False)):
        raw = struct.pack("<I", len(element)) + element
        call("ModelInfer", request([raw], name="x", datatype="BYTES", shape=[1]))
        inputs, options = session.asked[-1]
        assert isinstance(inputs["x"], list) == files
        assert (options["pixels"] is IMAGENET) == files


@pytest.mark.parametrize(
    ("raw", "tensor"),
    [
        ([b"123"], {"name": "x", "datatype": "FP32", "shape": [1]}),
        ([b"1234"], {"name": "x", "datatype": "FP32", "shape": [2]}),
        ([b"1234"], {"name": "x", "datatype": "FP32", "shape": [-1]}),
        ([b""], {"name": "x", "datatype": "FP32", "shape": [0, 1 << 62]}),
        (None, {"name": "x", "datatype": "UINT8", "shape": [1], "contents": {"uint_contents": [300]}}),
        (None, {"name": "x", "datatype": "INT8", "shape": [1], "contents": {"int_contents": [-129]}}),
        ([b"1234", b""], {"name": "x", "datatype": "FP32", "shape": [1]}),
        ([b"\xff\xff\xff\xff1"], {"name": "x", "datatype": "BYTES", "shape": [1]}),
        ([b"\x01"], {"name": "x", "datatype": "BYTES", "shape": [1]}),
        ([b"\x01\0\0\0\xff"], {"name": "x", "datatype": "BYTES", "shape": [1]}),
        ([b"1234"], {"name": "x", "datatype": "FLOAT", "shape": [1]}),
        (None, {"name": "x", "datatype": "FP16", "shape": [1]}),
    ],
)
def test_requests_that_contradict_themselves_are_invalid(
    gateway: tuple[FakeSession, Any], raw: list[bytes] | None, tensor: dict[str, Any]
) -> None:
    """Wrong sizes, shapes and datatypes are INVALID_ARGUMENT with a reason, and nothing is asked of the service."""
    session, call = gateway
    with pytest.raises(grpc.RpcError) as caught:
        call("ModelInfer", request(raw, **tensor))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not session.asked


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Refusal.NO_MODEL, "NOT_FOUND"),
        (Refusal.INPUT_REFUSED, "INVALID_ARGUMENT"),
        (Refusal.DEADLINE, "DEADLINE_EXCEEDED"),
        (Refusal.HOST_LOST, "UNAVAILABLE"),
        (Refusal.POLICY, "FAILED_PRECONDITION"),
    ],
)
def test_refusals_have_the_status_that_a_caller_can_act_on(
    gateway: tuple[FakeSession, Any], code: Refusal, status: str
) -> None:
    """What the service refuses comes out with a fitting status and the reason."""
    session, call = gateway
    session.error = refusal(code, "the reason")
    with pytest.raises(grpc.RpcError) as caught:
        call("ModelInfer", request([b"1234"], name="x", datatype="FP32", shape=[1]))
    assert caught.value.code() is grpc.StatusCode[status]
    assert "the reason" in caught.value.details()


def test_a_gateway_listens_on_the_loopback_interface_only(gateway: tuple[FakeSession, Any]) -> None:
    """A second gateway on the same port is refused, and the first listens on the loopback interface only."""
    from sectum.hetee.client.open_inference_gateway import OpenInferenceGateway
    from sectum.hetee.errors import ServiceRefused

    with OpenInferenceGateway(FakeSession(), 0) as first, pytest.raises(ServiceRefused):  # type: ignore[arg-type]
        OpenInferenceGateway(FakeSession(), first.port)  # type: ignore[arg-type]


def test_health_does_not_wait_for_inferences(gateway: tuple[FakeSession, Any]) -> None:
    """With more endless inferences than places, health is answered, and callers that give up free their places."""
    session, call = gateway
    array = np.zeros((1, 2), np.float32)
    infer = request([array.tobytes()], name="x", datatype="FP32", shape=array.shape)
    session.endless = True
    calls = [call("ModelInfer", infer, wait=False) for _ in range(70)]
    until(lambda: len(session.waiting) == 64 and sum(one.done() for one in calls) == 6, what="the attack")
    assert {one.code() for one in calls if one.done()} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    for method in ("ServerLive", "ServerReady", "ServerMetadata"):
        assert call(method, message(f"{method}Request")())
    session.endless = False
    for one in calls:
        one.cancel()
    for _ in range(64):
        assert session.cancelled.acquire(timeout=30)
    assert call("ModelInfer", infer).raw_output_contents[0] == array.tobytes()
