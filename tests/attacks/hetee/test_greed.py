"""Tenants that want more than their share, and a host that wants the controller's end: others are served."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import TensorProto, helper

from hetee_rack import Rack, until
from places import SUPPORT
from sectum.errors import SectumError
from sectum.hetee import launcher
from sectum.hetee.client import Session, connect
from sectum.hetee.client.connection import Connection
from sectum.hetee.client.reconnecting_session import ReconnectingSession
from sectum.hetee.client.transport import Transport
from sectum.hetee.client.trust import Trust
from sectum.hetee.confinement import users
from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.data_plane.messages import Pace
from sectum.hetee.errors import EvidenceRefused, HeteeError, Refusal, WorkRefused
from sectum.hetee.installation.manufacture import ENDORSEMENT_LIFE_S, manufacture, store
from sectum.hetee.launcher import role_command
from sectum.hetee.wire import messages
from sectum.hetee.wire.kinds import Kind
from sectum.testing.tiny_models import endless_loop

pytestmark = pytest.mark.slow

SMALL = np.arange(10, dtype=np.float32)
LEAST = np.iinfo(np.int64).min
FEW_FILES = 64  # of a controller with two spare workers, 15 are in use


@pytest.fixture(scope="module")
def rack() -> Iterator[Rack]:
    """One paced accelerator and one that computes."""
    with Rack("cpu=1,paced=1") as started:
        yield started


def one_operator(op: str, dtype: int, inputs: str = "x", name: str = "one") -> bytes:
    """A model of one operator with inputs and an output ``y`` of any length; the name makes it another model."""
    values = [helper.make_tensor_value_info(name, dtype, ["N"]) for name in (*inputs, "y")]
    graph = helper.make_graph([helper.make_node(op, list(inputs), ["y"])], name, values[:-1], values[-1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return bytes(made.SerializeToString())


def served(rack: Rack, model: bytes, wait_s: float = 20) -> None:
    """Use the service honestly."""
    with rack.connect(wait_s=wait_s) as session:
        session.load(model)
        np.testing.assert_array_equal(session.infer(SMALL).outputs["y"], SMALL * 2)


def opened(rack: Rack, identity: Ed25519PrivateKey) -> Transport:
    """A session without an enclave.

    Raises:
        HeteeError: it is refused.
    """
    trust = Trust(rack.policy)
    transport = Transport(Connection(rack.url, trust, identity), trust)
    try:
        transport.until(lambda: transport.accept is not None, 10, Refusal.HANDSHAKE_LATE, "no answer")
    except HeteeError:
        transport.close()
        raise
    return transport


def test_one_identity_does_not_take_all_sessions(rack: Rack, doubler: bytes) -> None:
    """Of 300 sessions of one identity a part is opened, the others are refused as BUSY; other clients are served."""
    identity, refused = Ed25519PrivateKey.generate(), []
    with ExitStack() as stack:
        held = []
        for _ in range(300):
            try:
                held.append(opened(rack, identity))
            except HeteeError as error:
                refused.append(error.code)
            else:
                stack.callback(held[-1].close)
        assert len(held) == 32
        assert set(refused) == {Refusal.BUSY}
        assert rack.get("/health") == (200, "ok\n")
        served(rack, doubler)
    until(lambda: rack.state()["sessions"] == 0, what="the end of the attack")  # type: ignore[index]


def test_a_flood_of_pings_is_cut_off(rack: Rack, doubler: bytes) -> None:
    """Sessions that send PING without end, and read nothing, are ended; others are served meanwhile."""
    identity, over = Ed25519PrivateKey.generate(), threading.Event()
    ping = messages.encode(messages.Ping(number=10**9))

    def flood() -> None:
        while not over.is_set():
            with (
                suppress(HeteeError),
                contextlib.closing(Connection(rack.url, Trust(rack.policy), identity)) as connection,
            ):
                sealer = connection.session.sealer
                while not over.is_set():
                    connection.send(lambda sealer=sealer: sealer.seal(Kind.PING, ping))  # type: ignore[misc]

    threads = [threading.Thread(target=flood) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: any("messages a second" in e["detail"] for e in rack.events("session_refused")), 60)
        served(rack, doubler, 60)
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_model_that_kills_its_worker_does_not_burn_workers(rack: Rack, doubler: bytes) -> None:
    """A division that traps ends the worker each time: the identity gets a few workers, and others are served."""
    divide, over = one_operator("Div", TensorProto.INT64, "ab"), threading.Event()
    identity, before = Ed25519PrivateKey.generate(), len(rack.events("vouched"))
    crashes: list[str] = []

    def attack() -> None:
        while not over.is_set():
            with suppress(HeteeError), rack.connect(identity=identity, wait_s=3) as session:
                while not over.is_set():
                    session.load(divide)
                    try:
                        session.infer({"a": np.array([LEAST]), "b": np.array([-1])})
                    except HeteeError as error:
                        crashes.append(str(error))

    attacker = threading.Thread(target=attack)
    attacker.start()
    begun_s = time.monotonic()
    try:
        until(lambda: crashes, 60, what="the first crash")
        while time.monotonic() < begun_s + 8:
            served(rack, doubler)
            time.sleep(0.5)
        honest = len(rack.events("vouched")) - before - len(crashes)
        assert honest > 2
        assert 1 < len(crashes) <= 5, crashes
        assert "SIGFPE" in crashes[0]
    finally:
        over.set()
        attacker.join()


def test_models_do_not_pile_up(rack: Rack) -> None:
    """A session can have a limited number of models, and one that is unloaded makes room; the worker lives on."""
    with rack.connect() as session:
        contents = [one_operator("Neg", TensorProto.FLOAT, name=f"model {number}") for number in range(33)]
        loaded = [session.load(content) for content in contents[:32]]
        with pytest.raises(WorkRefused) as caught:
            session.load(contents[32])
        assert caught.value.code is Refusal.MODEL_REFUSED
        session.unload(loaded[0])
        session.load(contents[32])
        np.testing.assert_array_equal(session.infer(SMALL).outputs["y"], -SMALL)
        with pytest.raises(WorkRefused) as caught:
            session.submit(SMALL, model=loaded[0]).result(30)
        assert caught.value.code is Refusal.NO_MODEL
        assert session.index == 0


@pytest.fixture(scope="module")
def small_rack() -> Iterator[Rack]:
    """A rack whose workers may have little memory, each and together."""
    with Rack("cpu=1,paced=4", arguments=["--memory-mib", "700", "--workers-memory-mib", "900"]) as started:
        yield started


def test_an_announced_model_of_two_gib_is_refused(small_rack: Rack, doubler: bytes) -> None:
    """A CODE of 2 GiB is MODEL_REFUSED before its chunks are sent, and the worker lives on."""
    with small_rack.connect() as session:
        transport = session._transport
        enclave, total, digest = transport.enclave, 2 << 30, hashlib.sha256(b"").digest()
        assert enclave is not None
        with transport.changed:
            stream, pending = enclave.open(Kind.CODE, digest, total)
        code = messages.encode(data_messages.CodeOpening(format="onnx", sha256=digest))
        chunks = total >> 20
        transport.connection.send(
            lambda: enclave.sealer.seal(Kind.CODE, code, stream=stream, chunks=chunks, total=total)
        )
        with pytest.raises(WorkRefused) as caught:
            pending.future.result(30)
        assert caught.value.code is Refusal.MODEL_REFUSED
        assert not small_rack.events("fault")
        assert session.index == 0
        session.close(0)
        served(small_rack, doubler)


def test_workers_together_do_not_take_the_machine(small_rack: Rack, doubler: bytes) -> None:
    """An identity whose workers hold more than all may have loses some, with that reason; a modest one loses none."""
    identity, lost = Ed25519PrivateKey.generate(), list[str]()
    pace = Pace(preprocess_us=0, compute_us=30_000_000, source="test")

    def attack() -> None:
        with suppress(HeteeError), small_rack.connect(identity=identity, wait_s=60, accelerator="paced") as session:
            session.load(doubler)
            batches = [session.submit(np.ones(15_000_000, np.float32), pace=pace) for _ in range(4)]
            until(lambda: lost or batches[0].done(), 60, what="the loss of a worker")
            if not batches[0].done():
                session.close(0)
            elif error := batches[0].exception(0):
                lost.append(str(error))

    with small_rack.connect(wait_s=60) as modest:
        modest.load(doubler)
        threads = [threading.Thread(target=attack) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        np.testing.assert_array_equal(modest.infer(SMALL).outputs["y"], SMALL * 2)
        assert modest.index == 0
        assert any("held most" in reason for reason in lost), lost


def test_who_is_ending_still_takes_turns(rack: Rack, doubler: bytes) -> None:
    """A session that ends with batches left gives its accelerator to another one, gets it back, and is answered."""
    pace = Pace(preprocess_us=0, compute_us=400_000, source="test")
    first = rack.connect(accelerator="paced")
    first.load(doubler)
    futures = [first.submit(SMALL, pace=pace, deadline_ms=60_000) for _ in range(12)]
    # TERMINATE goes to the controller, and would overtake batches on their way to the worker.
    until(lambda: any(worker["open_streams"] > 5 for worker in (rack.state() or {"workers": ()})["workers"]))
    ended: list[HeteeError | None] = []

    def end() -> None:
        transport = first._transport
        transport.ending = True
        transport.control(Kind.TERMINATE, messages.Deadline(deadline_ms=60_000))
        with transport.changed:
            transport.changed.wait_for(lambda: transport.failed is not None, 60)
        try:
            first.close(0)
        except HeteeError as error:
            ended.append(error)

    thread = threading.Thread(target=end)
    thread.start()
    with rack.connect(accelerator="paced", wait_s=30) as second:
        second.load(doubler)
        second.infer(SMALL, pace=pace)
    thread.join(60)
    assert not ended
    assert [future.exception(0) for future in futures] == [None] * len(futures)
    assert first.cleaning is not None
    assert first.cleaning.ended == "asked"


def test_health_of_the_gateway_is_answered_beside_endless_inferences(rack: Rack) -> None:
    """Beside 17 endless inferences through the gRPC door health is answered; the rest when their callers gave up."""
    grpc = pytest.importorskip("grpc", reason="grpcio, of the extra hetee, is not installed")
    from sectum.hetee.client.open_inference_gateway import OpenInferenceGateway
    from sectum.hetee.client.open_inference_messages import SERVICE, message

    session = ReconnectingSession(rack.url, rack.policy)
    with contextlib.closing(session):
        session.add("endless", endless_loop())
        session.add("double", one_operator("Neg", TensorProto.FLOAT))
        with OpenInferenceGateway(session, 0) as gateway, grpc.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:

            def call(method: str) -> Any:
                return channel.unary_unary(
                    f"/{SERVICE}/{method}",
                    request_serializer=message(f"{method}Request").SerializeToString,
                    response_deserializer=message(f"{method}Response").FromString,
                )

            def infer(model: str, data: np.ndarray) -> Any:
                tensor = message("InferTensor")(name="x", datatype="FP32", shape=data.shape)
                return message("ModelInferRequest")(
                    model_name=model, inputs=[tensor], raw_input_contents=[data.tobytes()]
                )

            endless = infer("endless", np.zeros(1, np.float32))
            calls = [call("ModelInfer").future(endless, timeout=300) for _ in range(17)]
            time.sleep(2)
            assert not any(one.done() for one in calls)
            for method in ("ServerLive", "ServerReady"):
                request = message(f"{method}Request")()
                assert call(method)(request, timeout=10)
            for one in calls:
                one.cancel()
            request = infer("double", SMALL)
            answer = call("ModelInfer")(request, timeout=60)
            assert answer.raw_output_contents[0] == (-SMALL).tobytes()


def test_a_crowd_from_one_address_keeps_no_other_address_out(rack: Rack, doubler: bytes) -> None:
    """With 400 connections without a session, opened again and again, clients of other addresses are all served."""
    over = threading.Event()

    def hold() -> None:
        while not over.is_set():
            with suppress(OSError), socket.create_connection(("127.0.0.1", rack.port), 5, ("127.0.0.2", 0)) as peer:
                peer.settimeout(0.5)
                while not over.is_set():
                    with suppress(TimeoutError):
                        if not peer.recv(4096):
                            break

    threads = [threading.Thread(target=hold, daemon=True) for _ in range(400)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(rack.events("connected")) > 350, 60, what="the attack")
        for _ in range(3):
            served(rack, doubler, 60)
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_operators_are_answered_beside_silent_ones(rack: Rack) -> None:
    """With 1,014 silent connections on the port for operators, /health is answered."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, limits[1]), limits[1]))
    try:
        with ExitStack() as stack:
            for _ in range(1014):
                stack.enter_context(socket.create_connection(("127.0.0.1", rack.metrics_port), 5))
            assert rack.get("/health")[0] == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.skipif(os.geteuid() != 0, reason="roles with users of their own need root")
def test_a_host_that_takes_all_descriptors_does_not_end_the_controller(
    doubler: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that opens connections without end leaves the controller no descriptor; it lives on, and serves again."""
    few = ["/bin/sh", "-c", f'ulimit -n {FEW_FILES}; exec "$@"', "sh"]
    monkeypatch.setattr(
        launcher, "role_command", lambda name: [*(few if name == "controller" else ()), *role_command(name)]
    )
    with Rack("cpu=1") as rack:
        controller = rack.launcher.controller.pid
        folder = os.open(rack.paths.socket.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            user = users.host_user(users.first_user(rack.paths.socket.parent))
            path = f"/proc/self/fd/{folder}/{rack.paths.socket.name}"
            command = [sys.executable, "-P", str(SUPPORT / "hetee_flooding_host.py"), str(user), path]
            flood = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(folder,))
        finally:
            os.close(folder)
        try:
            until(lambda: rack.events("cannot_accept"), 120, what="a controller without descriptors")
        finally:
            said, _ = flood.communicate(timeout=60)
        assert int(said) > FEW_FILES // 2
        assert rack.launcher.controller.pid == controller
        until(rack.ready, 60, what="a spare worker")
        served(rack, doubler, 60)


def expiring_rack(folder: Path) -> tuple[Rack, float]:
    """A rack that runs, and the time at which its endorsement expires."""
    for life_s in (30, 90, 270):  # on a busy machine a start takes long
        directory, end_s = folder / str(life_s), time.time() + life_s
        directory.mkdir(mode=0o700)
        store(manufacture(now_s=end_s - ENDORSEMENT_LIFE_S), directory / "endorsement")
        with suppress(SectumError):
            rack = Rack("cpu=1", directory=directory)
            rack.__enter__()
            if time.time() < end_s - life_s / 2:
                return rack, end_s
            rack.__exit__(None, None, None)
    pytest.fail("a rack takes minutes to start")


def test_an_endorsement_that_expires_ends_the_service_with_its_reason(tmp_path: Path, doubler: bytes) -> None:
    """Before its end health warns; after it, sessions are refused, long ones end, and a restart names the reason."""
    rack, end_s = expiring_rack(tmp_path)
    with ExitStack() as stack:
        stack.push(rack)
        status, said = rack.get("/health")
        assert status == 200
        assert "expires" in said
        session: Session = connect(rack.url, rack.policy, attest_every_s=1.0)
        session.load(doubler)
        while time.time() < end_s - 5:
            session.infer(SMALL)
            time.sleep(0.5)
        until(lambda: session.failed, 60, what="the end of the session")
        assert isinstance(session.failed, EvidenceRefused)
        assert session.failed.code is Refusal.STALE
        with pytest.raises(HeteeError) as caught:
            served(rack, doubler)
        assert caught.value.code is Refusal.STALE
        assert rack.get("/health")[0] == 503
        with suppress(HeteeError):
            session.close(0)
    with pytest.raises(EvidenceRefused, match="expired on"):
        Rack("cpu=1", directory=rack.paths.directory)
