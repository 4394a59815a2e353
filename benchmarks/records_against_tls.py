"""The records of the service's channel against TLS 1.3 of this Python, on one connection within this process.

A batch of bytes goes from one thread to another over a loopback connection: in the channel's chunks, and in TLS with
the same cipher (AES-256-GCM), in turns. Printed for each batch: records and the bytes that they add, which are the same
on every machine, and the processor time of both ends, median and range. It also says what this TLS offers to a
handshake that is to be bound to evidence: exported keys, channel bindings, hybrid groups, extensions.

    python benchmarks/records_against_tls.py [--repetitions 15] [--mib 9] [--json]

Processor times mean something only on a machine where nothing else runs. Exit code 0, or 2 for wrong options.
"""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sealed_against_grpc import certificate

from sectum.hetee.channel.record import Opener, Sealer
from sectum.hetee.channel.secret import Secret
from sectum.hetee.data_plane.chunk_sizes import usual_chunk_bytes
from sectum.hetee.wire.frames import FrameReader
from sectum.hetee.wire.header import HEADER_BYTES, chunks_needed
from sectum.hetee.wire.kinds import TAG_BYTES, Kind

MIB = 1 << 20
SESSION = b"s" * 16
TLS_RECORD_BYTES, TLS_ADDED_BYTES = 1 << 14, 5 + 1 + 16  # RFC 8446, 5.1 and 5.2: content, and what a record adds


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a loopback connection."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        near = socket.create_connection(door.getsockname())
        far, _ = door.accept()
    for end in (near, far):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


class Channel:
    """The service's records: each sealed into one buffer, and opened into the batch's."""

    name = "channel"

    def __init__(self, n_bytes: int) -> None:
        self._near, self._far = pair()
        self._sealer, self._opener = Sealer(Secret(b"t" * 32), SESSION), Opener(Secret(b"t" * 32), SESSION)
        self._chunk_bytes = usual_chunk_bytes(n_bytes)
        self._frame = memoryview(bytearray(HEADER_BYTES + self._chunk_bytes + TAG_BYTES))
        self._reader = FrameReader(frozenset({Kind.CHUNK}), self._receive)
        self.records = chunks_needed(n_bytes, self._chunk_bytes)

    def _receive(self, memory: memoryview, whole: bool) -> int:
        return self._far.recv_into(memory, 0, socket.MSG_WAITALL if whole else 0)

    def send(self, data: memoryview) -> None:
        """Seal and send a batch."""
        for index in range(self.records):
            part = data[index * self._chunk_bytes : (index + 1) * self._chunk_bytes]
            fields = {"stream": 1, "chunk": index, "chunks": self.records, "total": len(data)}
            n_bytes = self._sealer.seal_into(Kind.CHUNK, part, self._frame, **fields)
            self._near.sendall(self._frame[:n_bytes])

    def receive(self, place: memoryview) -> None:
        """Receive and open a batch."""
        at = 0
        while at < len(place):
            frame = self._reader.next()
            assert frame is not None
            end = at + len(frame.payload) - TAG_BYTES
            self._opener.open_into(frame.header, frame.payload, place[at:end])
            at = end


class Tls:
    """TLS 1.3 as Python's `ssl` offers it, with the same cipher."""

    name = "TLS 1.3"

    def __init__(self, n_bytes: int) -> None:
        near, far = pair()
        key, chain = certificate()
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "both.pem")
            path.write_bytes(key + chain)
            server.load_cert_chain(path)
        client.load_verify_locations(cadata=chain.decode())
        server.minimum_version = client.minimum_version = ssl.TLSVersion.TLSv1_3
        server.num_tickets = 0
        accepted: list[ssl.SSLSocket] = []
        greeting = threading.Thread(target=lambda: accepted.append(server.wrap_socket(far, server_side=True)))
        greeting.start()
        self._near = client.wrap_socket(near, server_hostname="localhost")
        greeting.join()
        self._far = accepted[0]
        self.cipher = self._near.cipher()
        self.records = chunks_needed(n_bytes, TLS_RECORD_BYTES)

    def send(self, data: memoryview) -> None:
        """Seal and send a batch: the library cuts it into records."""
        self._near.sendall(data)

    def receive(self, place: memoryview) -> None:
        """Receive and open a batch."""
        at = 0
        while at < len(place):
            at += self._far.recv_into(place[at:])


def batch(system: Channel | Tls, data: memoryview, place: memoryview) -> float:
    """Send one batch; returns the processor seconds of both ends."""
    begun_s = time.process_time()
    receiving = threading.Thread(target=system.receive, args=(place,))
    receiving.start()
    system.send(data)
    receiving.join()
    return time.process_time() - begun_s


def offered() -> dict[str, Any]:
    """What this Python's TLS offers to a handshake that is to be bound to evidence."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    near, _far = socket.socketpair()
    with near, _far:
        wrapped = context.wrap_socket(near, do_handshake_on_connect=False, server_hostname="localhost")
        exports: Callable[..., Any] | None = getattr(wrapped, "export_keying_material", None)
        wrapped.close()
    return {
        "library": ssl.OPENSSL_VERSION,
        "exports keys (RFC 5705)": exports is not None,
        "channel bindings": list(ssl.CHANNEL_BINDING_TYPES),
        "sets hybrid groups": hasattr(context, "set_groups"),
        "adds extensions": hasattr(context, "add_custom_extension"),
    }


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--mib", type=int, default=9, help="size of a batch")
    parser.add_argument("--json", action="store_true", help="print one object for programs")
    arguments = parser.parse_args()
    n_bytes = arguments.mib * MIB
    data, place = memoryview(bytearray(n_bytes)), memoryview(bytearray(n_bytes))
    channel, tls = Channel(n_bytes), Tls(n_bytes)
    seconds: dict[str, list[float]] = {channel.name: [], tls.name: []}
    for _ in range(arguments.repetitions + 1):
        for system in (channel, tls):
            seconds[system.name].append(batch(system, data, place))
    added = {channel.name: channel.records * (HEADER_BYTES + TAG_BYTES), tls.name: tls.records * TLS_ADDED_BYTES}
    rows = {
        system.name: {
            "records": system.records,
            "added_bytes": added[system.name],
            "cpu_ms": 1e3 * statistics.median(seconds[system.name][1:]),
            "cpu_ms_range": [1e3 * min(seconds[system.name][1:]), 1e3 * max(seconds[system.name][1:])],
        }
        for system in (channel, tls)
    }
    if arguments.json:
        print(json.dumps({"batch_bytes": n_bytes, "systems": rows, "tls": offered() | {"cipher": tls.cipher}}))
        return 0
    for name, row in rows.items():
        low, high = row["cpu_ms_range"]
        print(
            f"{name:8} {row['records']:>4} records, {row['added_bytes']:,} bytes added, "
            f"{row['cpu_ms']:.2f} ms of processor time (measured, {low:.2f} to {high:.2f})"
        )
    for what, answer in offered().items():
        print(f"TLS here: {what}: {answer}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
