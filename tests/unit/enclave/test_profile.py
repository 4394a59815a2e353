"""Profiles: the costs they predict, and which files are refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from sectum.enclave import profile as profiles
from sectum.enclave.profile import Profile, streamed_bytes
from sectum.enclave.profile_parts import Provenance, ThreadModel
from sectum.errors import ArtefactInvalid, UsageError
from sectum.paging.replacement import PagingCounts, ReplacementPolicy, Touch, steady_state


def document(**changes: Any) -> dict[str, Any]:
    return profiles.load("sgx1").to_json() | changes


def parsed(content: object) -> Profile:
    return profiles.parse(json.dumps(content).encode(), "mine.json")


def counts_of(loads: float, evictions: float, minor_faults: float) -> PagingCounts:
    nothing = steady_state([Touch(0, 0, 1)], None)
    return dataclasses.replace(nothing, loads=loads, evictions=evictions, minor_faults=minor_faults)


COSTLY = dataclasses.replace(
    profiles.load("native"),
    compute_factor=1.5,
    stream_ns_per_byte=0.5,
    load_us=10.0,
    evict_us=5.0,
    minor_fault_us=1.0,
    base_us=20.0,
    threads=ThreadModel(compute_factor=0.1, page_factor=0.2, base_us=30.0),
)


def test_shipped_profiles_load() -> None:
    """The package has seven profiles, each under its own name."""
    assert profiles.names() == ("native", "nitro", "sev-snp", "sgx1", "sgx2", "softepc", "tdx")
    assert [profiles.load(name).name for name in profiles.names()] == list(profiles.names())


@pytest.mark.parametrize("name", profiles.names())
def test_shipped_files_are_what_the_program_writes(name: str, tmp_path: Path) -> None:
    """A profile that is written and read again is equal, and has the same SHA-256."""
    profile = profiles.load(name)
    path = tmp_path / "copy.json"
    path.write_text(profile.to_text(), encoding="utf-8")
    again = profiles.load(path)
    assert again == profile
    assert again.sha256 == profile.sha256
    assert profiles.load(str(path)) == profile


def test_native_adds_nothing() -> None:
    """Without an enclave the time is the native time, whatever is streamed and on any number of threads."""
    native = profiles.load("native")
    assert native.epc_pages is None
    assert native.in_enclave_ms(12.5, 1e9, counts_of(1e6, 1e6, 1e6), threads=8).total_ms == 12.5


def test_changed_constants_name_their_origin() -> None:
    """A constant that is replaced has its new value and its new origin, also one of the threads'."""
    softepc = profiles.load("softepc")
    measured = Provenance("measured", "on this machine")
    changed = softepc.with_constants(
        measured,
        compute_factor=1.02,
        load_us=7,
        evict_us=5,
        minor_fault_us=1,
        threads_page_factor=0.1,
        epc_bytes=1 << 26,
    )
    assert (changed.load_us, changed.epc_bytes) == (7.0, 1 << 26)
    assert changed.threads.page_factor == 0.1
    assert changed.provenance["threads.page_factor"] == measured


def test_breakdown_adds_up_by_cause() -> None:
    """Each part of the time uses its own constant."""
    found = COSTLY.in_enclave_ms(100.0, 4e6, counts_of(loads=10, evictions=20, minor_faults=40))
    assert found.compute_ms == pytest.approx(150.0)
    assert found.memory_ms == pytest.approx((4e6 - 10 * 4096) * 0.5 / 1e6)
    assert found.paging_ms == pytest.approx((100 + 100 + 40) / 1e3)
    assert found.entry_ms == pytest.approx(0.02)
    parts = found.compute_ms + found.memory_ms + found.paging_ms + found.entry_ms
    assert found.total_ms == pytest.approx(parts)


def test_pages_that_were_loaded_are_not_streamed_too() -> None:
    """Loaded pages are charged as paging only; the streamed rest cannot become negative."""
    found = COSTLY.in_enclave_ms(0.0, 4096.0, counts_of(loads=2, evictions=2, minor_faults=0))
    assert found.memory_ms == 0.0


def test_threads_beyond_the_first_are_charged() -> None:
    """Each further thread multiplies compute and paging by a factor, and adds to the entry."""
    counts = counts_of(loads=100, evictions=0, minor_faults=0)
    found = COSTLY.in_enclave_ms(100.0, 0.0, counts, threads=4)
    assert found.compute_ms == pytest.approx(150.0 * 1.3)
    assert found.paging_ms == pytest.approx(1.0 * 1.6)
    assert found.paging_ms == COSTLY.paging_ms(counts, threads=4)
    assert found.entry_ms == pytest.approx(0.11)


def test_no_counts_mean_no_paging() -> None:
    """Without page counts the other parts are predicted."""
    assert COSTLY.in_enclave_ms(1.0, 0.0, None).paging_ms == 0.0


@pytest.mark.parametrize(
    ("native_ms", "n_bytes", "threads"),
    [(-1.0, 0.0, 1), (float("nan"), 0.0, 1), (1.0, -1.0, 1), (1.0, float("inf"), 1), (1.0, 0.0, 0)],
)
def test_impossible_arguments_are_refused(native_ms: float, n_bytes: float, threads: int) -> None:
    """Negative or infinite times and sizes, and less than one thread, are usage errors."""
    with pytest.raises(UsageError, match="give"):
        COSTLY.in_enclave_ms(native_ms, n_bytes, None, threads)


def test_only_operators_with_little_arithmetic_stream() -> None:
    """A fully connected layer waits for its weights; a convolution uses each of them many times."""
    assert streamed_bytes(4e6, flops=2 * 1e6) == 4e6
    assert streamed_bytes(4e6, flops=2 * 1e6 * 169) == 0.0
    assert streamed_bytes(0, flops=1e6) == 0.0


def test_another_epc_changes_the_pages_and_says_so() -> None:
    """A caller can give the size of the EPC, and the provenance then says so."""
    smaller = profiles.load("sgx1").with_epc(32 << 20)
    assert smaller.epc_pages == 8192
    assert "32 MiB" in smaller.provenance["epc_bytes"].source
    assert smaller.sha256 != profiles.load("sgx1").sha256
    assert smaller.with_epc(None).epc_pages is None


def test_an_epc_without_a_page_is_refused() -> None:
    """An EPC holds one page or more."""
    with pytest.raises(UsageError, match="holds no page"):
        profiles.load("sgx1").with_epc(4095)


def test_every_constant_says_where_it_comes_from() -> None:
    """Every constant of a shipped profile has a provenance."""
    for name in profiles.names():
        assert set(profiles.load(name).provenance) >= set(profiles.constant_names())


def test_profiles_are_values() -> None:
    """Equal profiles have equal hashes, and their provenance cannot be changed in place."""
    assert hash(profiles.load("sgx1")) == hash(profiles.load("sgx1"))
    with pytest.raises(TypeError):
        profiles.load("sgx1").provenance["load_us"] = Provenance("default", "x")  # type: ignore[index]


def test_policy_is_read_as_the_models_own() -> None:
    """A profile's policy has the type that the page-replacement model takes."""
    assert parsed(document(policy="lru")).policy is ReplacementPolicy.LRU


def test_layout_of_the_file_does_not_change_its_sha256() -> None:
    """The digest is of the content: the order of keys, spaces, and 1 instead of 1.0 do not change it."""
    plain = document()
    other = dict(reversed(plain.items())) | {"minor_fault_us": 0}
    assert parsed(other).sha256 == parsed(plain).sha256


def test_unknown_name_lists_the_known_ones() -> None:
    """An unknown profile name is a usage error that lists the known names."""
    with pytest.raises(UsageError, match=r"native, nitro, sev-snp, sgx1, sgx2, softepc, tdx"):
        profiles.load("sgx3")


def test_missing_file_says_why(tmp_path: Path) -> None:
    """A path that cannot be read is an error with the system's reason."""
    with pytest.raises(ArtefactInvalid, match="No such file"):
        profiles.load(tmp_path / "none.json")


def test_unknown_constant_is_refused() -> None:
    """Only constants that exist can be replaced."""
    with pytest.raises(UsageError, match="no constant 'speed'"):
        profiles.load("softepc").with_constants(Provenance("measured", "here"), speed=1.0)


WITHOUT_LOAD = {name: origin for name, origin in document()["provenance"].items() if name != "load_us"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"schema": "sectum-profile/2"}, "sectum-profile/1"),
        ({"name": ""}, "name"),
        ({"description": 3}, "description"),
        ({"policy": "random"}, "fifo, lru, second-chance"),
        ({"policy": []}, "fifo, lru, second-chance"),
        ({"batch": 0}, "batch"),
        ({"batch": True}, "batch"),
        ({"page_bytes": 4096.0}, "page_bytes"),
        ({"epc_bytes": 4095}, "epc_bytes"),
        ({"epc_bytes": "93MiB"}, "epc_bytes"),
        ({"load_us": -1}, "load_us"),
        ({"load_us": None}, "load_us"),
        ({"load_us": 1e10}, "load_us"),
        ({"threads": []}, "threads is not a JSON object"),
        ({"threads": {"compute_factor": 0.0, "page_factor": 0.0}}, "lacks the key 'base_us'"),
        ({"threads": {"compute_factor": -1, "page_factor": 0, "base_us": 0}}, r"threads\.compute_factor"),
        ({"provenance": WITHOUT_LOAD}, "lacks the key 'load_us'"),
        ({"provenance": WITHOUT_LOAD | {"load_us": "guess"}}, "provenance of load_us"),
        ({"provenance": WITHOUT_LOAD | {"load_us": {"kind": "guess", "source": "x"}}}, "kinds are"),
        ({"provenance": WITHOUT_LOAD | {"load_us": {"kind": "fitted", "source": " "}}}, "not empty"),
        (
            {"provenance": WITHOUT_LOAD | {"load_us": {"kind": "fitted", "source": "x", "doi": 1}}},
            "not empty",
        ),
        ({"provenance": WITHOUT_LOAD | {"load_us": {"kind": "fitted", "source": "x", "date": "May"}}}, "2026-02-05"),
        ({"compute_factor": None}, "kind 'unknown'"),
        ({"compute_factor": 0}, "takes time"),
        ({"compute_factor_low": 1.5}, "must lie between"),
        ({"compute_factor_high": 1.0}, "must lie between"),
        ({"compute_factor_high": 2.0}, "lacks 'compute_factor_high'"),
        ({"transfer_ns_per_byte": 2.0}, "lacks 'transfer_ns_per_byte'"),
        ({"tee": "vault"}, "tdx, sev-snp, nitro"),
        ({"measured_threads": 4}, "list of numbers"),
        ({"measured_threads": [0]}, "measured_threads"),
    ],
)
def test_files_that_break_the_schema_are_refused(changes: dict[str, Any], words: str) -> None:
    """The message names the file and its error."""
    with pytest.raises(ArtefactInvalid, match=words) as caught:
        parsed(document(**changes))
    assert str(caught.value).startswith("mine.json: ")


def test_a_missing_key_is_named() -> None:
    """The message names the missing key."""
    content = document()
    del content["base_us"]
    with pytest.raises(ArtefactInvalid, match="lacks the key 'base_us'"):
        parsed(content)


CONSTANTS = {
    "native": (None, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "sgx1": (94371840, 1.076, 0.08352, 6.59, 6.59, 0.0, 3.4),
    "sgx2": (68719476736, 1.033, 0.0, 6.59, 6.59, 0.0, 4.3),
    "softepc": (97517568, 1.0, 0.0, 10.0, 10.0, 10.6, 0.0),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_optional_keys_change_no_other_profile(name: str) -> None:
    """The profiles that need no range and no transfers have the constants that they always had."""
    found = profiles.load(name)
    of_profile = (found.compute_factor, found.stream_ns_per_byte, found.load_us, found.evict_us, found.minor_fault_us)
    assert (found.epc_bytes, *of_profile, found.base_us) == CONSTANTS[name]
    assert found.factor_range == (1.0, 1.0)
    assert not {"compute_factor_low", "compute_factor_high", "transfer_ns_per_byte", "tee"} & found.to_json().keys()
    assert found.entry_ms(1 << 30) == found.entry_ms(0)


def test_published_constants_of_a_confidential_machine_have_a_source_and_a_date() -> None:
    """Each published constant of Nitro names its commit and its date, and the factor has a range."""
    nitro = profiles.load("nitro")
    published = [origin for origin in nitro.provenance.values() if origin.kind == "published"]
    assert len(published) == 5
    assert all(origin.date and ("commit" in origin.source or "arXiv" in origin.source) for origin in published)
    low, high = nitro.factor_range
    assert low < 1 < high
    assert nitro.compute_factor is not None
    overhead = nitro.compute_factor - 1
    assert nitro.compute_factor_low == pytest.approx(1 + overhead / 5, abs=1e-3)
    assert nitro.compute_factor_high == pytest.approx(1 + overhead * 5, abs=1e-3)


def test_inputs_and_outputs_pay_for_crossing_the_boundary() -> None:
    """A byte of an input or output adds the same time to an inference, on top of the entry."""
    nitro = profiles.load("nitro")
    found = nitro.in_enclave_ms(10.0, 0.0, None, crossing_bytes=1_000_000)
    assert found.entry_ms == pytest.approx(0.155 + 4.4)
    assert found.total_ms == pytest.approx(10.0 * 1.129 + 0.155 + 4.4)


@pytest.mark.parametrize("name", ["tdx", "sev-snp"])
def test_a_machine_without_a_source_is_refused_with_reason_and_remedy(name: str) -> None:
    """Where nobody published the factor, none is invented: the error says why, and that calibrating inside helps."""
    found = profiles.load(name)
    assert found.compute_factor is None
    with pytest.raises(UsageError, match=rf"'{name}' cannot be predicted from outside: .*sectum calibrate.*inside"):
        found.in_enclave_ms(10.0, 0.0, None)


@pytest.mark.parametrize("name", ["nitro", "tdx", "sev-snp"])
def test_calibrated_inside_the_factor_is_one(name: str) -> None:
    """Native times from inside the machine contain its cost: nothing is multiplied, and nothing is left uncertain."""
    found = profiles.load(name).calibrated_inside()
    assert found.in_enclave_ms(10.0, 0.0, None, threads=4).compute_ms == 10.0
    assert found.factor_range == (1.0, 1.0)
    assert found.calibrated_inside() == found
    assert parsed(found.to_json()) == found


def test_a_confidential_gpu_is_refused_with_the_published_figures() -> None:
    """A GPU is no CPU prediction: the error gives what was published about it."""
    with pytest.raises(UsageError, match=r"'h100-cc' cannot be predicted: .*GPU.*4\.6 to 6\.9 %"):
        profiles.load("h100-cc")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"load_us": NaN}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b" " * ((1 << 20) + 1),
    ],
)
def test_bytes_that_are_no_profile_are_refused(data: bytes) -> None:
    """A damaged file raises ArtefactInvalid, never an error of the parser."""
    with pytest.raises(ArtefactInvalid, match=r"^mine\.json: "):
        profiles.parse(data, "mine.json")
