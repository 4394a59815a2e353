"""The plain baseline does the same work, and the service cannot be talked into it."""

from __future__ import annotations

import ast
import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import sectum
from hetee_worker_peer import WorkerUnderTest, as_tensor
from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire import messages
from sectum.hetee.wire.header import chunks_needed
from sectum.hetee.wire.kinds import ALLOWED, Kind, Role
from sectum.hetee.worker.plain import SESSION, PlainRecordReader, PlainRecordWriter
from sectum.testing.tiny_models import convolutions

pytestmark = pytest.mark.slow

FROM_WORKER = ALLOWED[Role.WORKER, Role.CLIENT]
X = np.random.default_rng(5).random((1, 8, 32, 32), np.float32)


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    """A connection to a plain worker."""
    command = [sys.executable, "-P", "-m", "sectum.hetee.worker.plain", "--accelerator", "cpu:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            with socket.create_connection(("127.0.0.1", int(process.stdout.readline())), timeout=30) as sock:
                yield sock
            assert process.wait(30) == 0
        finally:
            process.kill()  # it must not be waited for in vain


def send(writer: PlainRecordWriter, kind: Kind, message: messages.Message, stream: int, data: bytes) -> None:
    chunks = chunks_needed(len(data), 10_000)
    writer.message(kind, messages.encode(message), stream=stream, chunks=chunks, total=len(data))
    for index in range(chunks):
        part = memoryview(data)[index * 10_000 : (index + 1) * 10_000]
        writer.chunk(part, stream=stream, chunk=index, chunks=chunks, total=len(data), context=b"")


def test_computes_the_same(connection: socket.socket) -> None:
    """Model and batch go in without sealing, and the runtime's own result comes out, with its times."""
    reader, writer = PlainRecordReader(connection, FROM_WORKER), PlainRecordWriter(connection)
    content = convolutions()
    sha256 = hashlib.sha256(content).digest()
    send(writer, Kind.CODE, data_messages.CodeOpening(format="onnx", sha256=sha256), 1, content)
    told: dict[Kind, bytes] = {}
    data = bytearray(40)
    while Kind.RECEIPT not in told:
        header = reader.next()
        assert header is not None
        if header.kind is Kind.CHUNK:
            reader.chunk(header, memoryview(data), b"")
            continue
        told[header.kind] = bytes(reader.message(header))
        if header.kind is Kind.LOADED:
            batch = data_messages.BatchOpening(model=sha256, tensors=(as_tensor("x", X),), deadline_ms=60_000)
            send(writer, Kind.BATCH, batch, 2, X.tobytes())
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert np.array_equal(np.frombuffer(data, np.float32), session.run(None, {"x": X})[0][0])
    receipt = json.loads(messages.decode(told[Kind.RECEIPT], data_messages.SignedReceipt).receipt)
    assert receipt["times_ns"]["compute"] > 0
    assert receipt["times_ns"]["encryption"] == 0
    assert (receipt["items"], receipt["paced"]) == (1, False)


def test_nothing_of_the_service_imports_it() -> None:
    """No module of the package but the bench's can reach the plain mode."""
    package = Path(sectum.__file__).parent
    for path in package.rglob("*.py"):
        if path.name == "plain.py" or "bench" in path.relative_to(package).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
                assert not (node.module == "sectum.hetee.worker" and "plain" in names), path
            assert "sectum.hetee.worker.plain" not in names, path


def test_a_worker_of_the_service_takes_nothing_plain() -> None:
    """A plain frame ends a confined worker; it is not computed."""
    with WorkerUnderTest(stderr=subprocess.DEVNULL) as worker:
        client = worker.assign()
        PlainRecordWriter(client.socket).message(Kind.FINISH, b"\x80")
        assert client.sealer.session != SESSION
        assert worker.ended() == refusal(Refusal.WRONG_SESSION, "").exit_code


def test_a_client_that_goes_with_answers_unread_ends_it(connection: socket.socket) -> None:
    """A connection that is reset has ended: the worker ends as well, and without an error."""
    writer = PlainRecordWriter(connection)
    content = convolutions()
    send(
        writer, Kind.CODE, data_messages.CodeOpening(format="onnx", sha256=hashlib.sha256(content).digest()), 1, content
    )
    connection.recv(1, socket.MSG_PEEK)  # an answer is there, and is left: closing resets the connection
