"""Writes golden vectors beside this file: all, or those that are named.

They are recorded once: shares, devices and attestation keys are random. After that they are what the program has to
keep to; run it again only for a new version of the protocol. Each case has the verdict that it must have. "version" is
the version of the protocol that changed these bytes last.

    python tests/vectors/hetee/generate.py [frames] [key_schedule] [records] [evidence]
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hetee_session_pair import bytes_of
from sectum.hetee.attest.endorsement import Endorsement
from sectum.hetee.attest.evidence import Evidence, Subject
from sectum.hetee.attest.software_provider import SoftwareProvider
from sectum.hetee.attest.token import HARDWARE, NONCE, Signer
from sectum.hetee.channel.key_exchange import answer_share
from sectum.hetee.channel.record import Rekeying, Sealer
from sectum.hetee.channel.schedule import HandshakeKeys
from sectum.hetee.channel.secret import Secret
from sectum.hetee.data_plane.channel import worker_traffic
from sectum.hetee.installation.manufacture import manufacture
from sectum.hetee.verification.evidence import read_evidence
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Failure, Ping, encode

HERE = Path(__file__).parent
NOW_S = 1_800_000_000
NONCE_BYTES = bytes(range(32))
SESSION = bytes(range(16))


def write(name: str, version: int, about: str, cases: Callable[[], Any]) -> None:
    if name in (sys.argv[1:] or [name]):
        content = {"about": about, "version": version, "cases": cases()}
        (HERE / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def frames() -> list[dict[str, Any]]:
    """Byte streams and what a reader makes of them."""
    error = plain_frame(Kind.ERROR, encode(Failure(0x0607, "the host ended")))  # type: ignore[arg-type]
    batch = Header(Kind.BATCH, 20, 1, SESSION, 7, 3, 0, 2, 8000).pack() + bytes(20)
    chunk = Header(Kind.CHUNK, 4112, 1, SESSION, 8, 3, 0, 2, 8000).pack() + bytes(4112)
    good = [("an error", error), ("an opening and a chunk", batch + chunk), ("nothing", b"")]
    cases = [{"name": name, "bytes": data.hex(), "verdict": "accepted"} for name, data in good]

    def bad(name: str, verdict: str, data: bytes) -> None:
        cases.append({"name": name, "bytes": data.hex(), "verdict": verdict})

    def put(at: int, value: bytes, data: bytes = error) -> bytes:
        return data[:at] + value + data[at + len(value) :]

    bad(
        "an HTTP request",
        "BAD_MAGIC",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n\r\n",
    )
    bad("version 1", "BAD_VERSION", put(4, b"\1"))
    bad("version 3", "BAD_VERSION", put(4, b"\3"))
    bad("type 0x2c, WAKE of version 1", "UNKNOWN_TYPE", put(5, b"\x2c"))
    bad("type 0x50", "UNKNOWN_TYPE", put(5, b"\x50"))
    bad("a flag", "BAD_FLAGS", put(6, b"\0\1"))
    bad("a payload of 4 GiB", "BAD_LENGTH", put(8, b"\xff" * 4))
    bad("a chunk over 1 MiB", "BAD_LENGTH", put(8, (0x100011).to_bytes(4), chunk))
    bad("a plain frame with an epoch", "BAD_FIELD", put(12, b"\0\0\0\1"))
    bad("a batch without stream", "BAD_FIELD", put(40, bytes(8), batch))
    bad("a batch without session", "BAD_FIELD", put(16, bytes(16), batch))
    bad("a chunk after the last", "BAD_CHUNKING", put(48, b"\0\0\0\2", chunk))
    bad("a stream over 2 GiB", "BAD_CHUNKING", put(56, ((2 << 30) + 1).to_bytes(8), batch))
    bad("chunks of 2 bytes", "BAD_CHUNKING", put(52, (4000).to_bytes(4), batch))
    bad("half a header", "TRUNCATED", error[:32])
    bad("half a payload", "TRUNCATED", error[:-1])
    bad("a second frame cut off", "TRUNCATED", error + error[:70])
    return cases


def key_schedule() -> list[dict[str, Any]]:
    """One handshake's shares and transcripts, and every key that follows."""
    mlkem_seed, x25519_key = digest("mlkem d") + digest("mlkem z"), digest("x25519")
    encapsulation_key = MLKEM768PrivateKey.from_seed_bytes(mlkem_seed).public_key().public_bytes_raw()
    public = encapsulation_key + X25519PrivateKey.from_private_bytes(x25519_key).public_key().public_bytes_raw()
    share, handshake = answer_share(public)
    case: dict[str, Any] = {"name": "session", "mlkem_seed": mlkem_seed.hex(), "x25519_key": x25519_key.hex()}
    case |= {"client_share": public.hex(), "controller_share": share.hex(), "handshake": bytes_of(handshake).hex()}
    th1, th4, vouch = digest("th1"), digest("th4"), digest("vouch")
    keys = HandshakeKeys(handshake, th1)
    case |= {"th1": th1.hex(), "th4": th4.hex(), "vouch": vouch.hex(), "session_id": keys.session_id.hex()}
    case |= {name: bytes_of(getattr(keys, name)).hex() for name in ("seal_k", "seal_c", "mac_k", "mac_c")}
    session = keys.session(th4)
    case |= {name: bytes_of(getattr(session, name)).hex() for name in ("control_c", "control_k")}
    case["workers"] = []
    for _ in range(2):
        secret = session.worker(vouch)
        worker = {"secret": bytes_of(secret).hex()}
        for name, traffic in zip(("data_c", "data_w"), worker_traffic(secret), strict=True):
            worker[name] = bytes_of(traffic).hex()
        case["workers"].append(worker)
    return [case]


def records() -> list[dict[str, Any]]:
    """Records under one traffic secret, with a new epoch after every second, and what spoils them."""
    secret, context = digest("traffic"), digest("opening")
    sealer = Sealer(Secret(secret), SESSION, Rekeying(records=2))
    sealed, opened = [], []
    for number in range(5):
        plaintext = encode(Ping(number))
        sealed.append(bytes(sealer.seal(Kind.PING, plaintext)))
        opened.append(plaintext.hex())
    chunk = bytearray(64 + 100 + 16)
    sealer.seal_into(Kind.CHUNK, b"c" * 100, chunk, stream=9, chunks=1, total=100, context=context)
    base = {"traffic": secret.hex(), "session": SESSION.hex(), "rekey_records": 2}
    every = [frame.hex() for frame in sealed]

    def case(name: str, verdict: str, frames: list[str], opens: int) -> dict[str, Any]:
        return base | {"name": name, "verdict": verdict, "frames": frames, "opened": opened[:opens]}

    def bent(at: int) -> str:
        return (sealed[1][:at] + bytes([sealed[1][at] ^ 1]) + sealed[1][at + 1 :]).hex()

    return [
        case("five records, three epochs", "accepted", every, 5),
        base
        | {"name": "and a chunk", "verdict": "accepted", "frames": [*every, chunk.hex()], "context": context.hex()}
        | {"opened": [*opened, (b"c" * 100).hex()]},
        base
        | {"name": "a chunk of another opening", "verdict": "NOT_AUTHENTIC", "frames": [*every, chunk.hex()]}
        | {"context": digest("other").hex(), "opened": opened},
        case("one twice", "REPLAYED", [every[0], every[0]], 1),
        case("an earlier one", "REPLAYED", [every[0], every[1], every[0]], 2),
        case("one left out", "GAP", [every[0], every[2]], 1),
        case("the first left out", "GAP", [every[1]], 0),
        case("a changed tag", "NOT_AUTHENTIC", [every[0], bent(len(sealed[1]) - 1)], 1),
        case("a changed ciphertext", "NOT_AUTHENTIC", [every[0], bent(64)], 1),
        case("another session", "WRONG_SESSION", [every[0], bent(31)], 1),
        case("another epoch", "WRONG_EPOCH", [every[0], bent(15)], 1),
        case("another type", "NOT_AUTHENTIC", [every[0], bent(5)], 1),
    ]


def evidence() -> list[dict[str, Any]]:
    """Evidence, and for each case root, nonce and time with which it is verified."""
    root, other_root = (Ed25519PrivateKey.from_private_bytes(digest(name)) for name in ("root", "other root"))
    machine, foreign = manufacture(root, now_s=NOW_S), manufacture(other_root, now_s=NOW_S)
    controller = Subject("controller", "0.1.0", digest("controller software"))
    worker = Subject("worker", "0.1.0", digest("worker software"))

    def provider(endorsement: Endorsement = machine, subject: Subject = controller) -> SoftwareProvider:
        return SoftwareProvider(endorsement, subject, clock_s=lambda: NOW_S)

    genuine = provider()
    whole = read_evidence(genuine.evidence(worker, NONCE_BYTES))
    claims = cbor2.loads(cbor2.loads(whole.token).value[2])
    cases: list[dict[str, Any]] = []

    def case(
        name: str, verdict: str, data: bytes | Evidence, *, nonce: bytes = NONCE_BYTES, now_s: int = NOW_S
    ) -> None:
        encoded = data if isinstance(data, bytes) else encode(data)
        cases.append(
            {"name": name, "verdict": verdict, "evidence": encoded.hex(), "nonce": nonce.hex(), "now_s": now_s}
        )
        cases[-1]["root"] = root.public_key().public_bytes_raw().hex()

    def resigned(change: dict[int, Any]) -> Evidence:
        signer = genuine._signer
        return msgspec.structs.replace(whole, token=signer.sign(claims | change))

    def swap(**parts: Any) -> Evidence:
        return msgspec.structs.replace(whole, **parts)

    case("a worker", "accepted", whole)
    case("a controller", "accepted", genuine.evidence(controller, NONCE_BYTES))
    case("made in debug mode", "accepted", provider(machine, Subject("controller", "0.1.0", digest("c"), debug=True))
         .evidence(controller, NONCE_BYTES))  # fmt: skip
    case("at the end of its time", "accepted", whole, now_s=NOW_S + 360)
    case("for another handshake", "STALE", whole, nonce=bytes(32))
    case("after its time", "STALE", whole, now_s=NOW_S + 361)
    case("before its time", "STALE", whole, now_s=NOW_S - 61)
    case("of another manufacturer", "NOT_GENUINE", provider(foreign).evidence(worker, NONCE_BYTES))
    case("the chain of another start", "NOT_GENUINE", swap(chain=read_evidence(
        provider().evidence(worker, NONCE_BYTES)).chain))  # fmt: skip
    case("signed by the endorsement key", "NOT_GENUINE", swap(token=Signer(machine.key).sign(claims)))
    case("a changed signature", "NOT_GENUINE", swap(token=whole.token[:-1] + bytes([whole.token[-1] ^ 1])))
    case("without a chain", "EVIDENCE_MALFORMED", swap(chain=()))
    case("a short chain", "EVIDENCE_MALFORMED", swap(chain=whole.chain[:1]))
    case("software that calls itself sgx", "EVIDENCE_MALFORMED", resigned({HARDWARE: "sgx"}))
    case("a nonce of another length", "STALE", resigned({NONCE: NONCE_BYTES + b"\0"}))
    case("an unknown claim", "EVIDENCE_MALFORMED", resigned({-70099: 1}))
    case("a quote where none is trusted", "NOT_GENUINE", swap(format="sgx"))
    case("no evidence", "EVIDENCE_MALFORMED", b"no evidence")
    case("bytes after it", "EVIDENCE_MALFORMED", encode(whole) + b"\0")
    return cases


def main() -> None:
    write("frames", 2, "Byte streams; a reader that expects any type refuses with the verdict, or accepts all.", frames)
    write("key_schedule", 1, "The client's private keys, both shares, transcripts, and all secrets.", key_schedule)
    write("records", 2, "Frames in the order of their arrival; those in opened open before the verdict.", records)
    write("evidence", 1, "Verified with one root, at one time, for one nonce.", evidence)


if __name__ == "__main__":
    main()
