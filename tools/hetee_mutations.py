"""Feeds mutated frames, messages, handshakes and evidence to every parser of the service.

Run it from a checkout, with the extra ``hetee`` installed::

    .venv/bin/python tools/hetee_mutations.py --mutations 1000000 --seed 7

Each mutant must be refused with a refusal, or be equal to what it was made from. The program reports any other
exception, a mutant that is accepted as something that nobody sent, one that takes longer than a second, and growing
memory. Its exit code is 1 if it found anything.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hetee_quote_provider import QuoteProvider
from hetee_quoting_platform import QuotingPlatform
from hetee_session_pair import bytes_of, one_frame
from hetee_simple_reader import SimpleFrameReader
from sectum.hetee.attest.evidence import Subject
from sectum.hetee.attest.software_provider import SoftwareProvider
from sectum.hetee.channel.handshake import ControllerHandshake
from sectum.hetee.channel.record import Opener, Sealer
from sectum.hetee.channel.release import release
from sectum.hetee.channel.secret import Secret
from sectum.hetee.client.handshake import ClientHandshake
from sectum.hetee.data_plane.messages import (
    SCHEMAS,
    BatchOpening,
    Loaded,
    Pace,
    Pixels,
    Ready,
    ResultOpening,
    Slot,
    Tensor,
    read,
)
from sectum.hetee.data_plane.receipts import Receipt, ReceiptSigner
from sectum.hetee.data_plane.release_key import WorkerKey
from sectum.hetee.data_plane.streams import ChunkReassembly, Ledger
from sectum.hetee.data_plane.tensors import layout
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.host.sockets import IncomingFrames, SourceEnded
from sectum.hetee.installation.manufacture import manufacture
from sectum.hetee.verification.evidence import verify
from sectum.hetee.verification.policy import Policy, read_policy
from sectum.hetee.verification.quotes import QuoteVerifier
from sectum.hetee.verification.records import open_receipt
from sectum.hetee.verification.software import SoftwareVerifier
from sectum.hetee.wire.frames import Frame, FrameReader, plain_frame
from sectum.hetee.wire.header import HEADER_BYTES, Header, parse
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import AcceleratorCount, Accept, Configure, Failure, Job, Message, Ping, Vouch, encode
from sectum.hetee.wire.state import State, WorkerStatus

SESSION = b"s" * 16
NONCE = bytes(range(32))
SLOWEST_S = 1.0
GROWTH_BYTES = 16 << 20

TENSORS = (
    Tensor("images", "uint8", (2,), "jpeg", (700, 901), (Pixels(mean=(0.5,), std=(0.25,), size=(224, 224)),)),
    Tensor("mask", "float32", (2, 3)),
    Tensor("words", "string", (2,), "utf8", (3, 4)),
)
MESSAGES: tuple[tuple[Kind, Message], ...] = (
    (Kind.ACCEPT, Accept("sectum", "0.1.0", 60_000, (AcceleratorCount("cpu", 4), AcceleratorCount("paced", 1)))),
    (Kind.CONFIGURE, Configure("paced", count=2, wait_ms=1000)),
    (Kind.VOUCH, Vouch(0, b"e" * 300, b"k" * 32, b"r" * 32, ("cpu0",), ("seccomp", "netns"), ("landlock",))),
    (Kind.FAIL, Failure(Refusal.BUSY, "no accelerator within 1000 ms")),
    (Kind.PING, Ping(1 << 40)),
    (Kind.READY, Ready(0, 256 << 20, 16, ("cpu0",))),
    (Kind.BATCH, BatchOpening(b"m" * 32, TENSORS, 5000, ("logits",), (Pace(1000, 2000, "Fig. 8a"),))),
    (Kind.RESULT, ResultOpening(TENSORS[1:], paced=True)),
    (Kind.LOADED, Loaded(b"m" * 32, (Slot("x", "float32", ("N", 3, 224, 224)),), (), 12_345)),
    (Kind.STATE, State((WorkerStatus(0, "serving", ("cpu0",), 1, 2, 3, 4),), 0, 1, draining=False)),
    (Kind.JOB_REQUEST, Job("paced", count=2, priority=-1)),
)


class Forged(Exception):
    """A mutant was accepted as something that nobody sent."""


@dataclass
class Target:
    """A parser of untrusted bytes.

    Attributes:
        seeds: valid inputs, from which mutants are made.
        feed: takes a mutant and its seed; raises a refusal, or Forged.
        weight: how often it is chosen, relative to other targets.
    """

    seeds: list[bytes]
    feed: Callable[[bytes, bytes], None]
    weight: int


def only_frame(mutant: bytes) -> Frame:
    """Read a mutant of one frame. If it is no longer exactly one frame, a role would refuse it or wait for more."""
    try:
        return one_frame(mutant)
    except ValueError:
        raise refusal(Refusal.TRUNCATED, "the mutant is not one frame") from None


def _frames(mutant: bytes, _seed: bytes) -> None:
    reader = SimpleFrameReader(frozenset(Kind))
    for frame in reader.feed(mutant):
        if frame.header.pack() != bytes(frame.header.pack()):
            raise Forged("a header is not encoded as it was read")
        if frame.header.kind in SCHEMAS and not frame.header.kind.sealed:
            _message(frame.header.kind, bytes(frame.payload))
    reader.end()


class Source:
    """A socket that holds some bytes, and returns at most ``step`` bytes for each call."""

    def __init__(self, data: bytes, step: int) -> None:
        self._left, self._step = memoryview(data), step

    def receive(self, memory: memoryview, whole: bool) -> int:
        """Fill ``memory``, or a part of it unless ``whole``."""
        n_bytes = min(len(self._left), len(memory), len(memory) if whole else self._step)
        memory[:n_bytes] = self._left[:n_bytes]
        self._left = self._left[n_bytes:]
        return n_bytes

    def recv_into(self, memory: memoryview) -> int:
        """Receive as a socket does."""
        return self.receive(memory, False)


def _step(mutant: bytes) -> int:
    return (1, 63, 64, 65, 1000, 1 << 20)[zlib.crc32(mutant) % 6] if len(mutant) < 4096 else 1 << 20


def _read(frames: Iterable[Frame]) -> tuple[list[tuple[Header, bytes]], HeteeError | None]:
    """The frames until the end, and the refusal that ended them, if any."""
    read: list[tuple[Header, bytes]] = []
    try:
        for frame in frames:
            read.append((frame.header, bytes(frame.payload)))
    except HeteeError as error:
        return read, error
    return read, None


def _simply(mutant: bytes) -> Iterator[Frame]:
    reader = SimpleFrameReader(frozenset(Kind))
    yield from reader.feed(mutant)
    reader.end()


def _ahead(mutant: bytes, _seed: bytes) -> None:
    """The buffered reader must read the same frames from any bytes as the plain reader."""
    reader = FrameReader(frozenset(Kind), Source(mutant, _step(mutant)).receive)
    read, error = _read(iter(reader.next, None))
    wanted, wanted_error = _read(_simply(mutant))
    if read != wanted or (error and error.code) != (wanted_error and wanted_error.code):
        raise Forged(f"{len(read)} frames and {error}, expected {len(wanted)} and {wanted_error}")
    if error is not None:
        raise error


def _inflow(mutant: bytes, _seed: bytes) -> None:
    """A host must forward whole frames in order and unchanged, and nothing of bytes that are not a frame."""
    source = Source(mutant, _step(mutant))
    incoming, forwarded, headers, ended = IncomingFrames(source), bytearray(), list[Header](), None  # type: ignore[arg-type]
    try:
        while True:
            run, n_bytes = incoming.run(incoming.header(), frozenset(Kind))
            part = bytearray(incoming.take(n_bytes))
            rest = memoryview(bytearray(n_bytes - len(part)))
            while rest and (got := source.recv_into(rest)):
                part, rest = part + rest[:got], rest[got:]
            forwarded += part
            headers += run
            if rest:  # the last frame is cut off, which ends the connection
                headers.pop()
                break
    except SourceEnded:
        pass
    except HeteeError as error:
        ended = error
    wanted, wanted_error = _read(_simply(mutant))
    whole = sum(HEADER_BYTES + header.length for header, _ in wanted)
    if headers != [header for header, _ in wanted] or len(forwarded) < whole or not mutant.startswith(forwarded):
        raise Forged(f"{len(headers)} frames were forwarded, expected {len(wanted)}")
    if ended is not None and (wanted_error is None or ended.code is not wanted_error.code):
        raise Forged(f"ended with {ended}, expected {wanted_error}")
    if wanted_error is not None:
        raise wanted_error


def _message(kind: Kind, payload: bytes) -> Message:
    message = read(kind, payload)
    if encode(message) != payload:
        raise Forged(f"{kind.name} is not encoded as it was read")
    return message


def _messages(mutant: bytes, _seed: bytes) -> None:
    message = _message(Kind(mutant[0]) if mutant and mutant[0] in SCHEMAS else Kind.BATCH, mutant[1:])
    if isinstance(message, BatchOpening | ResultOpening):
        places = layout(message.tensors)
        if places and places[-1].end > 2 << 30:
            raise Forged("tensors that do not fit into a stream")


def _records() -> Target:
    sealer = Sealer(Secret(b"t" * 32), SESSION)
    plaintexts = [b"", b"one", b"two" * 40, b"three" * 300]
    seed = b"".join(bytes(sealer.seal(Kind.CANCEL, text, stream=1 + at)) for at, text in enumerate(plaintexts))

    def feed(mutant: bytes, _seed: bytes) -> None:
        opener = Opener(Secret(b"t" * 32), SESSION)
        reader = SimpleFrameReader(frozenset({Kind.CANCEL}))
        for number, frame in enumerate(reader.feed(mutant)):
            text = opener.open(*frame)
            if number >= len(plaintexts) or text != plaintexts[number]:
                raise Forged(f"record {number} opened to something else")
        reader.end()

    return Target([seed], feed, 20)


def _streams() -> Target:
    """A peer that has the keys but breaks the rules: its frames are authentic, but make no sense."""

    def head(kind: Kind, chunk: int = 0, length: int = 116) -> bytes:
        return Header(kind, length, 0, SESSION, 0, 3, chunk, 3, 9000).pack()

    seed = head(Kind.BATCH) + b"".join(head(Kind.CHUNK, at, n + 16) for at, n in enumerate((4096, 4096, 808)))

    def feed(mutant: bytes, _seed: bytes) -> None:
        assembly, ledger, taken = ChunkReassembly(), Ledger(20_000, 2), 0
        for at in range(0, len(mutant), HEADER_BYTES):
            header = parse(mutant[at : at + HEADER_BYTES])
            if header.kind is Kind.CHUNK:
                n_bytes = header.length - 16
                begin = assembly.place(header, n_bytes)
                if begin != taken or begin + n_bytes > header.total:
                    raise Forged("a chunk outside of its stream")
                assembly.take(header, n_bytes)
                taken += n_bytes
            elif header.kind in (Kind.BATCH, Kind.CODE):
                ledger.open(header)
                assembly.begin(header, b"opening")
                taken = 0
            else:
                ledger.answer(header.stream, Kind.RESULT if header.kind is Kind.RESULT else Kind.REFUSED)
            if ledger.credit_bytes < 0 or len(ledger.open_streams) > 2:
                raise Forged("more was opened than was granted")

    return Target([seed, seed + head(Kind.REFUSED, length=64)[:52] + bytes(12)], feed, 12)


def _nothing(_evidence: bytes, _nonce: bytes) -> None:
    return None


def _handshake() -> list[Target]:
    identity = Ed25519PrivateKey.from_private_bytes(b"i" * 32)
    hello = ClientHandshake(identity, _nothing).hello()

    def controller() -> ControllerHandshake:
        return ControllerHandshake(lambda nonce: b"evidence" + nonce, lambda _identity: True)

    def feed_hello(mutant: bytes, _seed: bytes) -> None:
        # A changed HELLO is answered like another client's, but nobody can finish that handshake.
        controller().receive(only_frame(mutant))

    def feed_attest(mutant: bytes, seed: bytes) -> None:
        client, peer = ClientHandshake(identity, _nothing), controller()
        offered = peer.receive(one_frame(client.hello()))
        assert offered is not None
        # Apply the mutant's changes to this handshake's own message.
        bent = _carried_over(offered, seed, mutant)
        client.receive(only_frame(bent))
        if bent != offered:
            raise Forged("a changed ATTEST was accepted")

    def feed_proof(mutant: bytes, seed: bytes) -> None:
        client, peer = ClientHandshake(identity, _nothing), controller()
        offered = peer.receive(one_frame(client.hello()))
        assert offered is not None
        proof = client.receive(one_frame(offered))
        bent = _carried_over(proof, seed, mutant)
        peer.receive(only_frame(bent))
        if bent != proof:
            raise Forged("a changed PROOF was accepted")

    client = ClientHandshake(identity, _nothing)
    attest = controller().receive(one_frame(client.hello()))
    assert attest is not None
    proof = client.receive(one_frame(attest))
    return [Target([hello], feed_hello, 2), Target([attest], feed_attest, 2), Target([proof], feed_proof, 1)]


def _carried_over(own: bytes, seed: bytes, mutant: bytes) -> bytes:
    """Apply the difference between ``seed`` and ``mutant`` to ``own``."""
    paired = bytes(a ^ b ^ c for a, b, c in zip(own, seed, mutant, strict=False))
    return paired + mutant[len(paired) :]


def _evidence() -> list[Target]:
    endorsement = manufacture()
    provider = SoftwareProvider(endorsement, Subject("controller", "0.1.0", b"c" * 32))
    genuine = provider.evidence(Subject("worker", "0.1.0", b"w" * 32), NONCE)
    verifier, now_s = SoftwareVerifier([endorsement.root]), time.time()
    wanted = verify(genuine, NONCE, [verifier], now_s)
    signer = ReceiptSigner()
    times = {"preprocess": 1, "compute": 2, "encryption": 3, "transfer": 4}
    receipt = signer.sign(
        Receipt(SESSION, 0, 1, b"m" * 32, b"w" * 32, times, paced=False, items=8, hardware="software")
    )

    def feed(mutant: bytes, seed: bytes) -> None:
        claims = verify(mutant, NONCE, [verifier], now_s)
        if mutant != seed or claims != wanted:
            raise Forged("changed evidence was accepted")

    def feed_receipt(mutant: bytes, seed: bytes) -> None:
        open_receipt(mutant, signer.public_key, SESSION, 0, 1)
        if mutant != seed:
            raise Forged("a changed receipt was accepted")

    return [Target([genuine], feed, 6), Target([receipt], feed_receipt, 4)]


def _quotes() -> Target:
    """Quotes and their collateral. JSON and PEM can be written in several ways, so claims are compared, not bytes."""
    now_s, wanted = time.time(), {}
    for kind in ("sgx", "tdx"):
        platform = QuotingPlatform(kind)  # type: ignore[arg-type]
        subject = Subject("controller", "0.1.0", b"c" * 32)
        seed = QuoteProvider(platform.kind, subject, platform.quote, platform.collateral).evidence(subject, NONCE)
        verifier = QuoteVerifier([platform.root])
        wanted[seed] = verifier, verify(seed, NONCE, [verifier], now_s)

    def feed(mutant: bytes, seed: bytes) -> None:
        verifier, claims = wanted[seed]
        if verify(mutant, NONCE, [verifier], now_s) != claims:
            raise Forged("changed evidence was accepted")

    return Target(list(wanted), feed, 3)


def _release() -> Target:
    def feed(mutant: bytes, seed: bytes) -> None:
        key = WorkerKey()
        own = release(Secret(b"w" * 32), key.public, SESSION, 0)
        bent = _carried_over(own, seed, mutant)
        secret = key.accept(bent, SESSION, 0)
        if bent != own or bytes_of(secret) != b"w" * 32:
            raise Forged("a changed release was accepted")

    return Target([release(Secret(b"w" * 32), WorkerKey().public, SESSION, 0)], feed, 1)


def _policy() -> Target:
    policy = Policy(formats=("software",), measurements={"controller": ("63" * 32,)}, version_least="0.1.0")

    def feed(mutant: bytes, _seed: bytes) -> None:
        read_policy(mutant)

    return Target([msgspec.json.encode(policy)], feed, 4)


def targets() -> dict[str, Target]:
    """All parsers of untrusted bytes, with seeds for each."""
    plain = [(kind, message) for kind, message in MESSAGES if not kind.sealed]
    frames = b"".join(plain_frame(kind, encode(message)) for kind, message in plain)
    error = plain_frame(Kind.ERROR, encode(Failure(Refusal.HOST_LOST, "the worker's connection ended")))
    long = plain_frame(Kind.ERROR, bytes(40_000))  # larger than the read-ahead buffer
    hello, attest, proof = _handshake()
    evidence, receipt = _evidence()
    return {
        "frames": Target([frames, error * 3], _frames, 30),
        "ahead": Target([frames, error * 3, frames + long + error], _ahead, 20),
        "host": Target([frames, error * 3, frames + long + error], _inflow, 20),
        "messages": Target([bytes([kind]) + encode(message) for kind, message in MESSAGES], _messages, 40),
        "records": _records(),
        "streams": _streams(),
        "hello": hello,
        "attest": attest,
        "proof": proof,
        "evidence": evidence,
        "quotes": _quotes(),
        "receipt": receipt,
        "release": _release(),
        "policy": _policy(),
    }


INTERESTING = [
    value.to_bytes(size) for size in (1, 2, 4, 8) for value in (0, 1, (1 << 8 * size) - 1, 1 << 8 * size - 1)
]


def mutate(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """Make one to three changes to ``data``; inserted bytes may come from ``other``."""
    bent = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.randrange(len(bent) + 1)
        match chance.randrange(8):
            case 0 | 1 if bent:
                bent[at % len(bent)] ^= 1 << chance.randrange(8)
            case 2 if bent:
                bent[at % len(bent)] = chance.randrange(256)
            case 3:
                value = chance.choice(INTERESTING)
                bent[at : at + len(value)] = value
            case 4:
                del bent[at : at + chance.choice((1, 2, 8, 64, 1 << 20))]
            case 5:
                bent[at:at] = chance.randbytes(chance.choice((1, 2, 16, 64)))
            case 6:
                begin = chance.randrange(len(other) + 1)
                bent[at:at] = other[begin : begin + chance.choice((1, 8, 64, 4096))]
            case _:
                size = chance.choice((1, 8, 64))
                bent[at : at + size] = bent[at + size : at + 2 * size]
    return bytes(bent)


@dataclass
class Outcome:
    """The outcome of a run: the number of each verdict for each target, and everything that was found."""

    verdicts: dict[str, Counter[str]] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    growth_bytes: int = 0


def resident_bytes() -> int:
    """The resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def run(mutations: int, seed: int, *, progress: Callable[[int], None] = lambda _done: None) -> Outcome:
    """Feed ``mutations`` mutants. The same seed gives the same mutants."""
    chance, outcome, aims = random.Random(seed), Outcome(), targets()
    names, weights = list(aims), [aim.weight for aim in aims.values()]
    for name, aim in aims.items():
        if not aim.seeds or not all(aim.seeds):
            raise AssertionError(f"the target {name} has no seeds, or empty ones")
        outcome.verdicts[name] = Counter()
        for valid in aim.seeds[:1]:
            aim.feed(valid, valid)
    corpus = [valid for aim in aims.values() for valid in aim.seeds]
    settled = 0
    for done in range(mutations):
        (name,) = chance.choices(names, weights)
        aim = aims[name]
        valid = chance.choice(aim.seeds)
        mutant = mutate(valid, chance.choice(corpus), chance)
        begin_s = time.perf_counter()
        try:
            aim.feed(mutant, valid)
            verdict = "accepted"
        except HeteeError as error:
            verdict = error.code.name
        except BaseException as error:  # any other exception is a finding
            if isinstance(error, KeyboardInterrupt):
                raise
            verdict = "FOUND"
            outcome.found.append(f"{name}: {type(error).__name__}: {error}: {mutant[:200].hex()}")
        took_s = time.perf_counter() - begin_s
        outcome.slowest_s = max(outcome.slowest_s, took_s)
        if took_s > SLOWEST_S:
            outcome.found.append(f"{name}: {took_s:.1f} s: {mutant[:200].hex()}")
        outcome.verdicts[name][verdict] += 1
        # Ignore what is loaded and cached at first: memory must not grow in the second half.
        if done == mutations // 2:
            settled = resident_bytes()
        if not done % 10_000:
            progress(done)
    outcome.growth_bytes = resident_bytes() - settled
    if outcome.growth_bytes > GROWTH_BYTES:
        outcome.found.append(f"memory grew by {outcome.growth_bytes >> 20} MiB")
    return outcome


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--mutations", type=int, default=1_000_000, metavar="N", help="number of mutants (default 1,000,000)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the mutants (default 1)")
    arguments = parser.parse_args()
    begin_s = time.monotonic()

    def progress(done: int) -> None:
        print(f"\r{done:,} of {arguments.mutations:,}", end="", file=sys.stderr, flush=True)

    outcome = run(arguments.mutations, arguments.seed, progress=progress if sys.stderr.isatty() else lambda _done: None)
    for name, verdicts in outcome.verdicts.items():
        print(f"{name:9} {verdicts.total():>9,}  " + ", ".join(f"{what} {n:,}" for what, n in verdicts.most_common(6)))
    print(
        f"{arguments.mutations:,} mutations, seed {arguments.seed}: {time.monotonic() - begin_s:.0f} s, "
        f"slowest {1e3 * outcome.slowest_s:.0f} ms, "
        f"memory {outcome.growth_bytes / (1 << 20):+.1f} MiB in the second half, "
        f"{len(outcome.found)} found"
    )
    for line in outcome.found[:20]:
        print(line)
    return bool(outcome.found)


if __name__ == "__main__":
    sys.exit(main())
