"""A session's batches are computed correctly, answered once, and refused without affecting others."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Hashable

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from hetee_rack import until
from hetee_worker_peer import Client, as_tensor
from hetee_worker_samples import Serve, Served, jpeg
from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.data_plane.messages import Pace, Pixels, Tensor
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire import messages
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.worker.pixels import decode_jpeg
from sectum.testing.tiny_models import convolutions, endless_loop

X = np.random.default_rng(7).random((1, 8, 32, 32), np.float32)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def model(op: str, dtype: int, shape: list, out: int | None = None, **attributes) -> bytes:
    """One operator from ``x`` to ``y``."""
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", out or dtype, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def load(client: Client, content: bytes) -> bytes:
    answer = client.load(content)
    assert isinstance(answer, data_messages.Loaded), answer
    return answer.sha256


def alone(content: bytes, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def code_of(answer) -> Refusal:
    assert answer.refused is not None, answer
    assert answer.receipt is None
    return answer.refused.code


def test_computes_what_the_runtime_computes(serve: Serve) -> None:
    """A result is the runtime's own, bit for bit, with a receipt for this batch and this model."""
    client = serve().client
    sha256 = load(client, convolutions())
    answer = client.infer(sha256, {"x": X})
    assert np.array_equal(answer.outputs["y"], alone(convolutions(), X))
    assert answer.receipt is not None
    assert (answer.receipt.model, answer.receipt.items, answer.receipt.paced) == (sha256, 1, False)
    assert answer.receipt.times_ns["compute"] > 0
    assert answer.receipt.times_ns["encryption"] > 0


def test_decodes_normalises_and_infers(serve: Serve) -> None:
    """JPEGs are decoded, scaled and normalised in the enclave as the specification says."""
    content = model("Relu", TensorProto.FLOAT, ["n", 3, 16, 16])
    client = serve().client
    sha256 = load(client, content)
    files = [jpeg(40, 30), jpeg(16, 16), jpeg(17, 90)]
    pixels = Pixels(mean=MEAN, std=STD, shorter=20)
    tensor = Tensor(
        name="x", dtype="uint8", shape=(3,), encoding="jpeg", sizes=tuple(map(len, files)), pixels=(pixels,)
    )
    client.batch(sha256, [tensor], [b"".join(files)])
    _, answer = client.answer()
    images = np.stack([decode_jpeg(memoryview(file), 3, 16, 16, 20) for file in files]).transpose(0, 3, 1, 2)
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (MEAN, STD))
    assert np.array_equal(answer.outputs["y"], np.maximum((images.astype(np.float32) - mean) / std, 0))
    assert answer.receipt is not None
    assert answer.receipt.items == 3
    assert answer.receipt.times_ns["preprocess"] > 0


def test_takes_a_byte_a_channel(serve: Serve) -> None:
    """Raw uint8 images are normalised in the enclave, also in the other layout."""
    client = serve().client
    sha256 = load(client, model("Relu", TensorProto.FLOAT, ["n", 3, 5, 4]))
    images = np.random.default_rng(3).integers(0, 256, (2, 5, 4, 3), np.uint8)
    client.batch(
        sha256, [as_tensor("x", images, pixels=(Pixels(layout="nhwc", mean=(127.5,), std=(127.5,)),))], [images]
    )
    _, answer = client.answer()
    expected = np.maximum((images.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / np.float32(127.5), 0)
    assert np.array_equal(answer.outputs["y"], expected)


def test_many_chunks_in_and_out(serve: Serve) -> None:
    """A batch and a result of many chunks, and of none, arrive whole."""
    client = serve().client
    sha256 = load(client, model("Neg", TensorProto.INT8, ["n"]))
    for size in (0, 1, 300_001, 5_000_000):
        x = np.random.default_rng(size).integers(-128, 128, size, np.int8)
        assert np.array_equal(client.infer(sha256, {"x": x}).outputs["y"], -x)


def test_an_output_does_not_lie_in_reused_memory(serve: Serve) -> None:
    """A model that hands its input on gives a result that the next batch does not change."""
    client = serve().client
    sha256 = load(client, model("Identity", TensorProto.FLOAT, ["n"]))
    batches = [np.full(100_000, i, np.float32) for i in range(6)]
    for x in batches:
        client.batch(sha256, [as_tensor("x", x)], [x])
    for x in batches:
        assert np.array_equal(client.answer()[1].outputs["y"], x)


def test_strings_travel_both_ways(serve: Serve) -> None:
    """Strings are sent and returned."""
    client = serve().client
    sha256 = load(client, model("Identity", TensorProto.STRING, ["n"]))
    client.batch(sha256, [Tensor(name="x", dtype="string", shape=(2,), encoding="utf8", sizes=(1, 2))], ["aé".encode()])
    assert client.answer()[1].outputs["y"].tolist() == ["a", "é"]


def test_several_models_at_once(serve: Serve) -> None:
    """A session may load several networks, and each batch says which it is for."""
    client = serve().client
    neg, relu = (load(client, model(op, TensorProto.FLOAT, ["n"])) for op in ("Neg", "Relu"))
    x = np.array([-1, 2], np.float32)
    assert client.infer(neg, {"x": x}).outputs["y"].tolist() == [1, -2]
    assert client.infer(relu, {"x": x}).outputs["y"].tolist() == [0, 2]
    assert load(client, model("Neg", TensorProto.FLOAT, ["n"])) == neg


def test_every_batch_in_flight_is_answered_once(serve: Serve) -> None:
    """With as many open as allowed, on two accelerators, each stream gets its own result and no second one."""
    client = serve("cpu:0", "cpu:1", open_streams=4).client
    sha256 = load(client, model("Neg", TensorProto.FLOAT, ["n"]))
    sent: dict[int, np.ndarray] = {}
    answered: set[int] = set()
    for i in range(40):
        while len(sent) - len(answered) == 4:
            stream, answer = client.answer()
            assert stream not in answered
            answered.add(stream)
            assert np.array_equal(answer.outputs["y"], -sent[stream])
        x = np.full(1000 * (i % 5), i, np.float32)
        sent[client.batch(sha256, [as_tensor("x", x)], [x])] = x
    while len(answered) < 40:
        answered.add(client.answer()[0])
    assert answered == set(sent)


def test_refusals_end_their_stream_only(serve: Serve) -> None:
    """Whatever is wrong with one model or batch, the next one is served, and the refusal says what it was."""
    client = serve().client
    sha256 = load(client, convolutions())
    wrong = as_tensor("z", X)
    assert code_of(client.infer(bytes(32), {"x": X})) is Refusal.NO_MODEL
    client.batch(sha256, [wrong], [X])
    assert code_of(client.answer()[1]) is Refusal.INPUT_REFUSED
    client.batch(sha256, [as_tensor("x", X)], [X], outputs=["nothing"])
    assert code_of(client.answer()[1]) is Refusal.INPUT_REFUSED
    assert (
        code_of(client.infer(sha256, {"x": X}, pace=Pace(preprocess_us=0, compute_us=1, source="")))
        is Refusal.INPUT_REFUSED
    )
    contradicting = data_messages.BatchOpening(model=sha256, tensors=(as_tensor("x", X),), deadline_ms=1000)
    client.open_stream(Kind.BATCH, contradicting, [memoryview(bytes(5000))])
    assert code_of(client.answer()[1]) is Refusal.BAD_TENSOR
    refused = client.load(b"no model")
    assert isinstance(refused, messages.Failure)
    assert refused.code is Refusal.MODEL_REFUSED
    client.open_stream(
        Kind.CODE, data_messages.CodeOpening(format="onnx", sha256=bytes(32)), [memoryview(convolutions())]
    )
    assert code_of(client.answer()[1]) is Refusal.DIGEST_DIFFERS
    tensor = Tensor(name="x", dtype="uint8", shape=(1,), encoding="jpeg", sizes=(5,))
    image = load(client, model("Relu", TensorProto.FLOAT, ["n", 3, 8, 8]))
    client.batch(image, [tensor], [b"no jp"])
    assert code_of(client.answer()[1]) is Refusal.INPUT_REFUSED
    assert client.infer(sha256, {"x": X}).receipt


def test_a_model_that_the_runtime_refuses(serve: Serve) -> None:
    """What passes the limits and fails in the runtime is a refused model or batch, with the runtime's reason."""
    client = serve().client
    refused = client.load(model("NoSuchOperator", TensorProto.FLOAT, ["n"]))
    assert isinstance(refused, messages.Failure)
    assert refused.code is Refusal.MODEL_REFUSED
    depth = load(client, model("DepthToSpace", TensorProto.FLOAT, ["n", "c", "h", "w"], blocksize=2))
    assert code_of(client.infer(depth, {"x": np.zeros((1, 3, 2, 2), np.float32)})) is Refusal.INPUT_REFUSED
    huge = load(client, model("ConstantOfShape", TensorProto.INT64, ["n"], TensorProto.FLOAT))
    assert code_of(client.infer(huge, {"x": np.array([1 << 45])})) is Refusal.COMPUTE_FAILED
    assert client.infer(huge, {"x": np.array([3])}).receipt


def test_a_deadline_ends_an_endless_model(serve: Serve) -> None:
    """The client is answered at the deadline, and the accelerator is free for the next batch."""
    client = serve().client
    endless, sha256 = load(client, endless_loop()), load(client, convolutions())
    begun_s = time.monotonic()
    client.batch(endless, [as_tensor("x", np.zeros(1, np.float32))], [bytes(4)], deadline_ms=200)
    client.batch(sha256, [as_tensor("x", X)], [X])
    assert code_of(client.answer()[1]) is Refusal.DEADLINE
    assert time.monotonic() - begun_s >= 0.2
    assert client.answer()[1].receipt


def test_a_deadline_ends_a_batch_that_waits(serve: Serve) -> None:
    """A batch behind an endless one is refused at its own deadline, before the other's."""
    client = serve().client
    endless, sha256 = load(client, endless_loop()), load(client, convolutions())
    first = client.batch(endless, [as_tensor("x", np.zeros(1, np.float32))], [bytes(4)], deadline_ms=1500)
    second = client.batch(sha256, [as_tensor("x", X)], [X], deadline_ms=50)
    answers = [client.answer() for _ in range(2)]
    assert [stream for stream, _ in answers] == [second, first]
    assert {code_of(answer) for _, answer in answers} == {Refusal.DEADLINE}


def test_a_cancelled_batch_stops(serve: Serve) -> None:
    """CANCEL ends a batch that computes; one for a stream that was answered is no fault."""
    client = serve().client
    endless = load(client, endless_loop())
    stream = client.batch(endless, [as_tensor("x", np.zeros(1, np.float32))], [bytes(4)])
    client.send(Kind.CANCEL, messages.Empty(), stream=stream)
    assert code_of(client.answer()[1]) is Refusal.CANCELLED
    client.send(Kind.CANCEL, messages.Empty(), stream=stream)
    assert client.infer(load(client, convolutions()), {"x": X}).receipt


def test_answers_pings_while_it_computes(serve: Serve) -> None:
    """PING is answered while the accelerator is busy."""
    client = serve().client
    endless = load(client, endless_loop())
    client.batch(endless, [as_tensor("x", np.zeros(1, np.float32))], [bytes(4)], deadline_ms=1000)
    client.send(Kind.PING_WORKER, messages.Ping(number=42))
    assert client.expect(Kind.PONG_WORKER, messages.Ping).number == 42
    assert code_of(client.answer()[1]) is Refusal.DEADLINE


def test_credit_comes_back(serve: Serve) -> None:
    """What a batch took is given back once its memory is free, refused or not, to the byte."""
    client = serve(credit_bytes=2 * X.nbytes).client
    sha256 = load(client, convolutions())
    for name in ("z", "x"):
        client.batch(sha256, [as_tensor(name, X)], [X])
    client.answer()
    client.answer()
    while client.credited_bytes < 2 * X.nbytes:
        header, payload = client.receive()
        assert header.kind is Kind.CREDIT
        client.credited_bytes += messages.decode(payload, data_messages.Credit).credit_bytes
    assert client.credited_bytes == 2 * X.nbytes
    assert client.infer(sha256, {"x": X}).receipt


def test_credit_comes_within_its_time_whatever_else_is_on_its_way(serve: Serve) -> None:
    """The first batch that credit is owed for decides when it is given; a later one does not put it off."""
    streams = serve().enclave.streams
    due: list[Hashable] = []
    streams.deadlines.add = lambda key, _seconds, _late: due.append(key)  # type: ignore[method-assign]
    streams.ledger.release = lambda _n_bytes: None  # type: ignore[method-assign]
    for _ in range(3):
        streams._owe_credit(10)
    assert due == ["credit"]
    streams._return_credit()
    streams._owe_credit(10)
    assert due == ["credit", "credit"]


def test_a_shape_that_no_array_can_have_is_refused_and_ends_nothing(serve: Serve) -> None:
    """A shape with a zero and impossible dimensions is refused, and the session goes on."""
    client = serve().client
    sha256 = load(client, convolutions())
    for dtype in ("float32", "uint8"):
        tensor = Tensor(name="x", dtype=dtype, shape=(0, 2 << 30, 2 << 30, 2 << 30))  # type: ignore[arg-type]
        client.open_stream(
            Kind.BATCH, data_messages.BatchOpening(model=sha256, tensors=(tensor,), deadline_ms=1000), []
        )
        assert code_of(client.answer()[1]) is Refusal.BAD_TENSOR
    assert client.infer(sha256, {"x": X}).receipt


def test_what_few_bytes_would_be_converted_to_is_bounded(serve: Serve) -> None:
    """Pictures of a few bytes that are to be made large are refused before there is memory for them."""
    served = serve()
    sha256 = load(served.client, model("Relu", TensorProto.FLOAT, ["n", 3, "h", "w"]))
    pixels = (Pixels(size=(8192, 8192)),)
    tensor = Tensor(name="x", dtype="uint8", shape=(3,), encoding="jpeg", sizes=(1, 1, 1), pixels=pixels)
    served.client.batch(sha256, [tensor], [b"abc"])
    assert code_of(served.client.answer()[1]) is Refusal.INPUT_REFUSED
    until(lambda: not served.enclave.streams.buffers._used)


def test_a_client_that_only_asks_and_never_reads_is_stopped(serve: Serve) -> None:
    """The worker does not keep an unlimited number of PONGs for a client that does not read."""
    served = serve()
    served.client.socket.settimeout(2)
    with contextlib.suppress(OSError):  # it closes the socket
        for number in range(200_000):
            served.client.send(Kind.PING_WORKER, messages.Ping(number=number))
            if not served.ended.empty():
                break
    error = served.ended.get(timeout=10)
    assert error is not None
    assert error.code is Refusal.UNEXPECTED
    assert served.enclave.streams.answers.unread < 2000


def test_credit_is_kept(serve: Serve) -> None:
    """A batch beyond the credit ends the session; what was open is answered with the reason."""
    served = serve(credit_bytes=X.nbytes + 3)
    client = served.client
    endless = load(client, endless_loop())
    sha256 = load(client, convolutions())
    stream = client.batch(endless, [as_tensor("x", np.zeros(1, np.float32))], [bytes(4)])
    client.batch(sha256, [as_tensor("x", X)], [X])
    answered, answer = client.answer()
    assert (answered, code_of(answer)) == (stream, Refusal.CREDIT_EXCEEDED)
    error = served.ended.get(timeout=10)
    assert error is not None
    assert error.code is Refusal.CREDIT_EXCEEDED


@pytest.mark.parametrize(
    "fault", ["stream reused", "unknown cancelled", "flipped", "after finish", "two models", "malformed"]
)
def test_broken_rules_end_the_session(serve: Serve, fault: str) -> None:
    """A message that breaks the protocol ends the session with the specified code."""
    served = serve()
    client = served.client
    expected = {
        "stream reused": Refusal.STREAM_REUSED,
        "unknown cancelled": Refusal.UNKNOWN_STREAM,
        "flipped": Refusal.NOT_AUTHENTIC,
        "after finish": Refusal.UNEXPECTED,
        "two models": Refusal.INTERLEAVED,
        "malformed": Refusal.MALFORMED,
    }[fault]
    code = data_messages.CodeOpening(format="onnx", sha256=bytes(32))
    match fault:
        case "stream reused":
            client.load(b"no model")
            client.stream -= 1
            client.open_stream(Kind.CODE, code, [memoryview(b"x")])
        case "unknown cancelled":
            client.send(Kind.CANCEL, messages.Empty(), stream=99)
        case "flipped":
            frame = client.sealer.seal(Kind.FINISH, messages.encode(messages.Empty()))
            frame[-1] ^= 1
            client.socket.sendall(frame)
        case "after finish":
            client.send(Kind.FINISH, messages.Empty())
            client.open_stream(Kind.CODE, code, [memoryview(b"x")])
        case "two models":
            for stream in (1, 2):
                client.send(Kind.CODE, code, stream=stream, chunks=1, total=5)
        case "malformed":
            client.send(Kind.FINISH, messages.Ping(number=1))
    error = served.ended.get(timeout=10)
    assert error is not None
    assert error.code is expected


def test_finishing(serve: Serve) -> None:
    """FINISHED comes after the last answer, with counts that the client can compare."""
    client = serve().client
    sha256 = load(client, model("Neg", TensorProto.FLOAT, ["n"]))
    x = np.zeros(1000, np.float32)
    client.batch(sha256, [as_tensor("x", x)], [x])
    client.batch(bytes(32), [as_tensor("x", x)], [x])
    client.send(Kind.FINISH, messages.Empty())
    assert {client.answer()[0], client.answer()[0]} == {2, 3}
    finished = client.expect(Kind.FINISHED, data_messages.Finished)
    n_model = len(model("Neg", TensorProto.FLOAT, ["n"]))
    assert finished == data_messages.Finished(answered=1, refused=1, opened_bytes=8000 + n_model, sealed_bytes=4000)


def test_draining(serve: Serve) -> None:
    """While it drains, what is open is answered and what is new is refused; at the deadline the rest is refused."""
    served = serve()
    client = served.client
    endless = load(client, endless_loop())
    client.batch(endless, [as_tensor("x", np.zeros(1, np.float32))], [bytes(4)])
    client.send(Kind.PING_WORKER, messages.Ping(number=1))
    client.expect(Kind.PONG_WORKER, messages.Ping)  # so the batch was taken
    end_s = time.monotonic() + 0.5
    served.enclave.streams.draining = True
    client.batch(endless, [as_tensor("x", np.zeros(1, np.float32))], [bytes(4)])
    assert code_of(client.answer()[1]) is Refusal.CANCELLED
    while served.enclave.owes_answers(end_s):
        time.sleep(0.001)
    assert time.monotonic() >= end_s
    served.enclave.streams.refuse_all(refusal(Refusal.CANCELLED, "the enclave is being closed"))
    assert code_of(client.answer()[1]) is Refusal.CANCELLED
    assert not served.enclave.owes_answers(time.monotonic() + 10)


def test_wiping(serve: Serve) -> None:
    """After the end no buffer holds anything, and nothing can be opened or sealed."""
    served = serve()
    client = served.client
    sha256 = load(client, model("Neg", TensorProto.FLOAT, ["n"]))
    client.infer(sha256, {"x": np.ones(100_000, np.float32)})
    wiped = served.enclave.wipe()
    assert wiped.wiped_bytes >= 400_000
    assert (wiped.answered, wiped.refused) == (1, 0)
    client.send(Kind.PING_WORKER, messages.Ping(number=1))
    error = served.ended.get(timeout=10)
    assert error is not None
    assert error.code is Refusal.WIPED


def test_a_client_that_goes_leaves_nothing_behind(serve: Serve) -> None:
    """When the socket ends, what was open is stopped and the end is told."""
    served: Served = serve()
    client = served.client
    endless = load(client, endless_loop())
    client.batch(endless, [as_tensor("x", np.zeros(1, np.float32))], [bytes(4)])
    client.socket.close()
    assert served.ended.get(timeout=10) is None
    told = []
    served.enclave.engine.close(10, lambda *one: told.append(one))
    assert told == [("cpu:0", "1 models unloaded")]


def test_paced_batches_wait(serve: Serve) -> None:
    """A paced result takes the published times, is of the model's shape, and says everywhere that it is paced."""
    client = serve("paced:0").client
    sha256 = load(client, convolutions())
    pace = Pace(preprocess_us=30_000, compute_us=50_000, source="a test")
    begun_s = time.monotonic()
    answer = client.infer(sha256, {"x": X}, pace=pace)
    assert time.monotonic() - begun_s >= 0.08
    assert answer.paced
    assert answer.receipt is not None
    assert answer.receipt.paced
    assert answer.outputs["y"].shape == (1, 10)
    assert answer.receipt.times_ns["preprocess"] >= 30_000_000
    assert answer.receipt.times_ns["compute"] >= 50_000_000
    assert code_of(client.infer(sha256, {"x": X})) is Refusal.INPUT_REFUSED


def _pace(compute_s: float) -> Pace:
    return Pace(preprocess_us=0, compute_us=int(compute_s * 1e6), source="a test")


def _numbers(client: Client, sha256: bytes, n: int, compute_s: float, deadline_ms: int = 60_000) -> int:
    x = np.arange(n, dtype=np.float32)
    return client.batch(sha256, [as_tensor("x", x)], [x], pace=_pace(compute_s), deadline_ms=deadline_ms)


def test_nothing_comes_before_the_result_of_a_batch(serve: Serve) -> None:
    """Between a batch and its result the worker sends nothing, even if a batch like it came before: no time leaks."""
    client = serve("paced:0").client
    sha256 = load(client, model("Neg", TensorProto.FLOAT, ["n"]))
    _numbers(client, sha256, 3, 0.01)
    client.answer()
    while not client.credited_bytes:  # for the batch that was answered
        client.credited_bytes += messages.decode(client.receive()[1], data_messages.Credit).credit_bytes
    _numbers(client, sha256, 3, 0.3)
    assert client.receive()[0].kind is Kind.RESULT


def test_no_credit_is_returned_for_nothing(serve: Serve) -> None:
    """A batch without bytes takes no credit, and none comes back."""
    streams = serve().enclave.streams
    sent: list[Kind] = []
    streams.answers.now = lambda kind, _message: sent.append(kind)  # type: ignore[method-assign]
    streams._owe_credit(0)
    streams._return_credit()
    assert sent == []


@pytest.mark.parametrize("stream", [Kind.RESULT, Kind.CREDIT])
def test_the_deadline_of_a_stream_whose_number_is_that_of_a_type(serve: Serve, stream: int) -> None:
    """The worker's own deadlines do not replace those of streams, whatever their numbers."""
    client = serve("paced:0").client
    sha256 = load(client, model("Neg", TensorProto.FLOAT, ["n"]))
    client.stream = stream - 2
    _numbers(client, sha256, 3, 0.01)
    client.answer()
    assert _numbers(client, sha256, 3, 20, deadline_ms=300) == stream
    assert code_of(client.answer()[1]) is Refusal.DEADLINE


def test_heartbeats(serve: Serve) -> None:
    """The heartbeat counts the batches, images and open streams."""
    served = serve()
    sha256 = load(served.client, model("Neg", TensorProto.FLOAT, ["n"]))
    served.client.infer(sha256, {"x": np.ones(10, np.float32)})
    heartbeat = served.enclave.heartbeat()
    assert (heartbeat.batches, heartbeat.images, heartbeat.open_streams) == (1, 10, 0)
    assert heartbeat.bytes >= 80
