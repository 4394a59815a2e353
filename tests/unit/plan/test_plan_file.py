"""A plan's file is checked before anything believes it."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest

from kinds_of_models import build
from sectum.errors import ArtefactInvalid
from sectum.graph import read
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.optimized import RUNTIME
from sectum.plan.plan_file import MOST_BYTES, Plan, StoredStage, parse_plan, read_plan
from sectum.plan.units import channels_of

GOOD = {
    "schema": "sectum-plan/2",
    "model": {"source": "zoo:alexnet", "sha256": None, "batch": None, "inputs": {"input": [1, 3, 224, 224]}},
    "runtime": RUNTIME,
    "enclave": "softepc",
    "epc_bytes": 97517568,
    "threads": 1,
    "operators": 13,
    "buffers": 1,
    "buffer_bytes": 1 << 24,
    "arena_bytes": 1 << 20,
    "stages": [
        {"first": 0, "last": 9, "channels": None, "rows": 4, "weights": "streamed"},
        {"first": 10, "last": 12, "channels": None, "weights": "stay"},
    ],
}


ENCLAVE = {"epc_bytes": 1 << 26, "threads": 1, "buffers": 1, "buffer_bytes": 1 << 24, "arena_bytes": 1 << 20}
SEVERAL = GOOD | {
    "goal": "throughput",
    "link": {"bits_per_s": 1e10, "delay_ms": 0.1},
    "enclaves": [ENCLAVE, ENCLAVE | {"epc_bytes": 1 << 25, "threads": 2}],
    "stages": [stage | {"rows": None, "enclave": number} for number, stage in enumerate(GOOD["stages"])],
}


def changed(path: tuple, value: object, good: dict = GOOD) -> dict:
    """The good plan with one field changed."""
    data = copy.deepcopy(good)
    at = data
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return data


def test_a_good_plan_is_read() -> None:
    """All fields arrive."""
    plan = parse_plan(GOOD, "here")
    assert plan.stages == (StoredStage(0, 9, None, 4, True), StoredStage(10, 12, None, None, False))
    assert plan.order is None
    assert plan.inputs == {"input": (1, 3, 224, 224)}


def test_weights_as_int8_are_read_for_each_stage() -> None:
    """A stage says whether its streamed weights are stored as int8, and other stages of the plan need not be so."""
    plan = parse_plan(changed(("stages", 0, "weights"), "int8"), "here")
    assert [(stage.streamed, stage.int8) for stage in plan.stages] == [(True, True), (False, False)]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "sectum-plan/1"),
        (("runtime",), "1.30"),
        (("model",), []),
        (("model", "source"), ""),
        (("model", "source"), "x" * 5000),
        (("model", "batch"), 0),
        (("model", "batch"), (1 << 16) + 1),
        (("model", "inputs"), {"input": [0]}),
        (("model", "inputs"), {"input": "1x3"}),
        (("threads",), 0),
        (("threads",), True),
        (("threads",), 1.5),
        (("buffers",), 5),
        (("buffer_bytes",), -1),
        (("arena_bytes",), 1 << 60),
        (("epc_bytes",), "93MiB"),
        (("epc_bytes",), (256 << 10) - 1),
        (("operators",), None),
        (("stages",), []),
        (("stages",), {"first": 0}),
        (("stages",), [GOOD["stages"][0]] * 20_001),
        (("stages", 0, "weights"), "perhaps"),
        (("stages", 0, "first"), -1),
        (("stages", 0, "rows"), -1),
        (("stages", 0, "rows"), 0),
        (("stages", 0, "rows"), [0, 4]),
        (("order",), 3),
        (("order",), [0, -1]),
        (("order",), [0, True]),
        (("stages", 0, "channels"), [1]),
        (("stages", 0, "channels"), [1, "2"]),
    ],
)
def test_a_wrong_field_is_refused(path: tuple, value: object) -> None:
    """A field of another type or out of its range is an invalid plan, and the error names the file."""
    with pytest.raises(ArtefactInvalid, match="here"):
        parse_plan(changed(path, value), "here")


def test_a_plan_for_several_enclaves_is_read() -> None:
    """What each enclave is, which one runs each stage, and the link arrive; a plan for one has none of it."""
    chain = parse_plan(SEVERAL, "here").chain
    assert chain is not None
    assert chain.enclave_of == (0, 1)
    assert [one.epc_bytes for one in chain.enclaves] == [1 << 26, 1 << 25]
    assert [one.threads for one in chain.enclaves] == [1, 2]
    assert (chain.link.bits_per_s, chain.link.delay_ms, chain.goal) == (1e10, 0.1, "throughput")
    assert parse_plan(GOOD, "here").chain is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("goal",), "both"),
        (("goal",), []),
        (("link",), None),
        (("link", "bits_per_s"), 0),
        (("link", "bits_per_s"), float("nan")),
        (("link", "bits_per_s"), "10Gbps"),
        (("link", "delay_ms"), -1),
        (("link", "delay_ms"), float("inf")),
        (("link", "delay_ms"), True),
        (("enclaves",), []),
        (("enclaves",), [ENCLAVE]),
        (("enclaves",), [ENCLAVE] * 3),
        (("enclaves",), [ENCLAVE] * 65),
        (("enclaves", 0), 1),
        (("enclaves", 1, "epc_bytes"), 0),
        (("enclaves", 1, "threads"), 257),
        (("enclaves", 1, "buffers"), 5),
        (("enclaves", 1, "buffer_bytes"), -1),
        (("enclaves", 1, "arena_bytes"), 1 << 60),
        (("stages", 0, "enclave"), 1),
        (("stages", 1, "enclave"), 2),
        (("stages", 1, "enclave"), 0),
        (("stages", 1, "enclave"), -1),
        (("stages", 1, "enclave"), None),
        (("order",), [0, 1]),
        (("stages", 0, "rows"), 2),
    ],
)
def test_a_wrong_field_of_several_enclaves_is_refused(path: tuple, value: object) -> None:
    """Links that cannot be, enclaves without stages, and stages that go back to an enclave are an invalid plan."""
    with pytest.raises(ArtefactInvalid, match="here"):
        parse_plan(changed(path, value, SEVERAL), "here")


@pytest.mark.parametrize(
    ("good", "path"),
    [
        ("one", ("order_",)),
        ("one", ("model", "shapes")),
        ("one", ("stages", 1, "row")),
        ("several", ("link", "bandwidth")),
        ("several", ("enclaves", 1, "thread")),
        ("several", ("stages", 0, "enclaves")),
    ],
)
def test_a_field_that_plans_do_not_have_is_refused(good: str, path: tuple) -> None:
    """A misspelt field is not passed over: the error names it."""
    with pytest.raises(ArtefactInvalid, match=f"has the field '{path[-1]}'"):
        parse_plan(changed(path, 1, GOOD if good == "one" else SEVERAL), "here")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"schema": NaN}', b" " * (MOST_BYTES + 1)],
    ids=["empty", "cut", "list", "text", "no UTF-8", "deep", "NaN", "too large"],
)
def test_files_that_are_no_plan_are_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever a file holds, reading it as a plan ends in one clear error."""
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(ArtefactInvalid):
        read_plan(path)
    with pytest.raises(ArtefactInvalid):
        read_plan(tmp_path / "missing.json")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A folder is no plan, and nobody waits for a pipe that nothing is written to."""
    pipe, folder = tmp_path / "pipe.json", tmp_path / "folder.json"
    os.mkfifo(pipe)
    folder.mkdir()
    for path in (pipe, folder):
        with pytest.raises(ArtefactInvalid, match="not a file"):
            read_plan(path)


@pytest.fixture(scope="module")
def optimized(alexnet):
    return optimize(alexnet, Cpu.AVX512)


def stages_of(optimized, *stages: tuple, order: tuple[int, ...] | None = None) -> tuple:
    """Check stages against AlexNet."""
    data = json.loads(json.dumps(GOOD)) | {"operators": len(optimized.operators)}
    plan = parse_plan(data, "here")
    stored = tuple(StoredStage(*stage) for stage in stages)
    fields = {name: getattr(plan, name) for name in Plan.__dataclass_fields__}
    return Plan(**fields | {"stages": stored, "order": order}).planned_stages(optimized)


def test_stages_must_cover_all_operators(optimized) -> None:
    """Stages with gaps, overlaps, wrong ends, and parts of operators that have none are refused."""
    last = len(optimized.operators) - 1
    pool = next(index for index, op in enumerate(optimized.operators) if op.type == "MaxPool")
    assert len(stages_of(optimized, (0, 2, None, None, True), (3, last, None, None, False))) == 2
    for stages in (
        [(0, 2, None, None, True), (4, last, None, None, True)],
        [(0, 2, None, None, True), (2, last, None, None, True)],
        [(1, last, None, None, True)],
        [(0, last - 1, None, None, True)],
        [(0, last + 1, None, None, True)],
        [(0, pool - 1, None, None, True), (pool, pool, (0, 16), None, True), (pool, last, None, None, True)],
        [(0, last, (0, 16), None, True)],
        [(1 << 40, 1 << 40, (0, 16), None, True)],
    ):
        with pytest.raises(ArtefactInvalid):
            stages_of(optimized, *stages)


def test_rows_must_be_fewer_than_there_are_of_operators_that_have_them(optimized) -> None:
    """Strips of too many rows, of parts of an operator, and of operators without rows are refused."""
    last = len(optimized.operators) - 1
    conv = next(index for index, op in enumerate(optimized.operators) if op.type == "Conv")
    height = optimized.tensors[optimized.operators[conv].result].shape[2]

    def of(rows: int, end: int = conv, channels: tuple[int, int] | None = None) -> tuple:
        before = [(0, conv - 1, None, None, True)] if conv else []
        after = [(end + 1, last, None, None, True)] if end < last else []
        return stages_of(optimized, *before, (conv, end, channels, rows, True), *after)

    (divided,) = (stage.division for stage in of(height - 1) if stage.division)
    assert [strip.completes[divided.results[0]] for strip in divided.strips] == [(0, height - 1), (height - 1, height)]
    for rows, end, channels in ((height, conv, None), (1 << 40, conv, None), (2, last, None), (2, conv, (0, 16))):
        with pytest.raises(ArtefactInvalid):
            of(rows, end, channels)


def test_an_order_has_each_operator_once_after_what_it_reads(optimized) -> None:
    """An order that leaves an operator out, has one twice, or runs one too early is refused."""
    count = len(optimized.operators)
    whole = (0, count - 1, None, None, False)
    same = tuple(range(count))
    assert len(stages_of(optimized, whole, order=same)) == 1
    for order in (same[:-1], (*same[:-1], 0), same[::-1], (*same, count)):
        with pytest.raises(ArtefactInvalid, match="order"):
            stages_of(optimized, whole, order=order)


@pytest.mark.parametrize("kind", ["com.microsoft.nchwc:Conv", "com.microsoft:FusedGemm"])
def test_parts_of_an_operator_are_whole_blocks(optimized, kind: str) -> None:
    """Parts that end within a block of channels, which the kernel computes together, are refused; others are taken."""
    last = len(optimized.operators) - 1
    place = next(index for index, op in enumerate(optimized.operators) if op.qualified_type == kind)
    channels = channels_of(optimized.operators[place], optimized)

    def of(end: int) -> tuple:
        before = [(0, place - 1, None, None, True)] if place else []
        parts = [(place, place, (0, end), None, True), (place, place, (end, channels), None, True)]
        return stages_of(optimized, *before, *parts, (place + 1, last, None, None, True))

    assert [stage.channels for stage in of(32) if stage.channels] == [(0, 32), (32, channels)]
    for end in (1, 8, 31, channels - 1):
        with pytest.raises(ArtefactInvalid, match="multiples of 16"):
            of(end)


def test_a_table_of_which_few_rows_are_read_stays() -> None:
    """A plan that streams a table, all of which would be opened for a few rows, is refused; others are not."""
    graph = optimize(read(build("large_table")).graph, Cpu.AVX512)
    table = next(index for index, op in enumerate(graph.operators) if op.type == "Gather")
    last = len(graph.operators) - 1

    def of(streamed: int) -> tuple:
        return stages_of(graph, *((place, place, None, None, place == streamed) for place in range(last + 1)))

    assert of(last)
    with pytest.raises(ArtefactInvalid, match=f"stage {table} of the plan streams a table"):
        of(table)
