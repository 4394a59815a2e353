"""The sealed path against gRPC over TLS through one forwarding hop, with nothing computed.

The same batches of bytes go from this process to a worker's and come back, as many as were sent, with four on their way
at a time: through a service (client, host, worker; sealed from end to end), and through gRPC over TLS (client, a plain
TCP forwarder that splices, server), each of the three a process. gRPC's messages are raw bytes, without protobuf around
them. The two take turns; `ratio` is the median over the repetitions of gRPC's time over ours: above 1, ours is faster.

    python benchmarks/sealed_against_grpc.py [--repetitions 9] [--mib 1 --mib 9] [--json PATH]

Exit code: 0, or 1 if a ratio is below 1, or 2 if the benchmark did not run. Let nothing else run.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sealed_path import ANSWERS, BLOCK_BYTES, MIB, ON_THE_WAY, SealedPath, model, timed

from sectum.hetee.bench.context import machine
from sectum.hetee.bench.local_rack import LocalRack
from sectum.hetee.errors import HeteeError

NAME = "localhost"
METHOD = "/benchmark.Echo/Echo"
PIPE_BYTES = 1 << 20
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
SERVER_THREADS = 4


def certificate() -> tuple[bytes, bytes]:
    """A private key and a certificate for `NAME`, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, made.public_bytes(Encoding.PEM)


def serve() -> None:
    """In a process of its own: answer every message with itself. Prints certificate and port."""
    key, chain = certificate()
    handler = grpc.unary_unary_rpc_method_handler(lambda request, _context: request)
    service, _, method = METHOD.strip("/").rpartition("/")
    server = grpc.server(ThreadPoolExecutor(SERVER_THREADS), options=OPTIONS)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
    server.start()
    print(json.dumps({"port": port, "certificate": chain.decode()}), flush=True)
    sys.stdin.read()  # its end is the end of who started this
    server.stop(None)


def forward(port: int) -> None:
    """In a process of its own: move bytes between one client and a port, without looking at them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        client, _ = listener.accept()
    server = socket.create_connection(("127.0.0.1", port))
    for end in (client, server):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pumps = [threading.Thread(target=pump, args=ends) for ends in ((client, server), (server, client))]
    for thread in pumps:
        thread.start()
    for thread in pumps:
        thread.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Splice from one socket to the other until it ends."""
    outgoing, incoming = os.pipe()
    try:
        while got := os.splice(source.fileno(), incoming, PIPE_BYTES):
            while got:
                got -= os.splice(outgoing, sink.fileno(), got)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            end.close()


class Role:
    """A process of this file."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, __file__, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.said = json.loads(self._process.stdout.readline())
        self.pid = self._process.pid

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


class GrpcPath:
    """A gRPC server behind a forwarder, with a few batches on their way at a time."""

    def __init__(self) -> None:
        self._roles = [Role("--serve")]
        try:
            self._roles.append(Role("--forward", str(self._roles[0].said["port"])))
        except (OSError, ValueError):
            self._end()
            raise
        trusted = grpc.ssl_channel_credentials(self._roles[0].said["certificate"].encode())
        options = [*OPTIONS, ("grpc.ssl_target_name_override", NAME)]
        self._channel = grpc.secure_channel(f"127.0.0.1:{self._roles[1].said['port']}", trusted, options=options)
        self._echo = self._channel.unary_unary(METHOD)
        self._data = b""

    def __enter__(self) -> GrpcPath:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._channel.close()
        self._end()

    def _end(self) -> None:
        for role in self._roles:
            role.end()

    @property
    def pids(self) -> list[int]:
        """Its processes but this one."""
        return [role.pid for role in self._roles]

    def send(self, data: np.ndarray[Any, Any]) -> None:
        """Choose what is sent from now on."""
        self._data = data.tobytes()

    def run(self, batches: int) -> None:
        """Send so many batches and take their answers."""
        waiting: collections.deque[Any] = collections.deque()
        for _ in range(batches):
            if len(waiting) == ON_THE_WAY:
                waiting.popleft().result()
            waiting.append(self._echo.future(self._data))
        while waiting:
            assert len(waiting.popleft().result()) == len(self._data)


def measure(mibs: list[int], repetitions: int) -> list[dict[str, Any]]:
    """Both paths for each size of batches."""
    rows = []
    with (
        LocalRack("paced=1", arguments=["--spares", "1"]) as rack,
        rack.connect_and_settle(accelerator="paced") as session,
        GrpcPath() as theirs,
    ):
        session.load(model())
        for mib in mibs:
            data = np.random.default_rng(1).integers(0, 256, mib * MIB, np.uint8)
            batches = max(ON_THE_WAY, BLOCK_BYTES // data.nbytes)
            ours = SealedPath(session, data, ANSWERS["echo"])
            theirs.send(data)
            for path in (ours, theirs):
                path.run(ON_THE_WAY)
            samples = []
            for repetition in range(repetitions):
                pairs = [("sealed", ours, rack.pids()), ("grpc", theirs, theirs.pids)]
                order = pairs if repetition % 2 else pairs[::-1]
                samples.append({name: timed(path.run, batches, pids) for name, path, pids in order})
            rows.append(
                {
                    "mib": mib,
                    "sealed_ms": statistics.median(s["sealed"][0] for s in samples) * 1e3,
                    "grpc_ms": statistics.median(s["grpc"][0] for s in samples) * 1e3,
                    "ratio": statistics.median(s["grpc"][0] / s["sealed"][0] for s in samples),
                    "cpu_ratio": statistics.median(s["grpc"][1] / s["sealed"][1] for s in samples),
                    "samples_s": samples,
                }
            )
    return rows


def main() -> int:
    """Measures, prints, and judges."""
    parser = argparse.ArgumentParser(description="The sealed path against gRPC over TLS through one hop.")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--mib", type=int, action="append", help="of a batch; repeat it (default: 1 and 9)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything there ('-' for stdout)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--forward", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return 0
    if arguments.forward:
        forward(arguments.forward)
        return 0
    try:
        rows = measure(arguments.mib or [1, 9], arguments.repetitions)
    except (HeteeError, OSError, grpc.RpcError) as error:
        print(f"the benchmark did not run: {error}", file=sys.stderr)
        return 2
    about = machine()
    about["versions"]["grpcio"] = version("grpcio")
    result = {"what": "time of gRPC over TLS over that of the sealed path, measured", "rows": rows, "context": about}
    if arguments.json and str(arguments.json) == "-":
        print(json.dumps(result))
    else:
        print("batch MiB  sealed path ms  gRPC over TLS ms  ratio  processor time ratio")
        for row in rows:
            print(
                f"{row['mib']:9}  {row['sealed_ms']:14.2f}  {row['grpc_ms']:16.2f}  {row['ratio']:5.2f}"
                f"  {row['cpu_ratio']:20.2f}"
            )
        if arguments.json:
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(row["ratio"] >= 1 for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
