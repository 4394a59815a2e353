"""Which kind a processor is."""

from __future__ import annotations

from pathlib import Path

import pytest

from sectum.errors import UsageError
from sectum.ort import cpu as features
from sectum.ort.cpu import Cpu

AMX = "avx avx2 avx512f amx_tile amx_int8 amx_bf16"


@pytest.mark.parametrize(
    ("flags", "given", "kind"),
    [
        (AMX, True, Cpu.AMX),
        (AMX, False, Cpu.AVX512),
        (AMX.replace("amx_int8 ", ""), True, Cpu.AVX512),
        ("avx avx2 avx512f", True, Cpu.AVX512),
        ("avx avx2", True, Cpu.AVX2),
        ("sse4_2", True, Cpu.SSE),
    ],
)
def test_a_processor_has_tiles_if_it_lists_them_and_the_kernel_gives_them(
    flags: str, given: bool, kind: Cpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLAS takes AMX for bytes where there are tiles and products of bytes, and where Linux lets it have them."""
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor : 0\nflags : fpu {flags}\n")
    monkeypatch.setattr(features, "_CPU_INFO", info)
    monkeypatch.setattr(features, "_kernel_gives_tiles", lambda: given)
    assert Cpu.here() is kind


def test_without_a_list_of_features_a_processor_has_avx2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel lists nothing, the kind is the one that the other shipped models are for."""
    monkeypatch.setattr(features, "_CPU_INFO", tmp_path / "none")
    assert Cpu.here() is Cpu.AVX2


def test_a_block_alone_means_no_tiles() -> None:
    """What was stored before AMX was known, and what does not depend on it, stays what it was."""
    assert [Cpu.of_block(block) for block in (1, 8, 16)] == [Cpu.SSE, Cpu.AVX2, Cpu.AVX512]
    assert Cpu.of_block(16, amx=True) is Cpu.AMX
    assert Cpu.AMX.without_amx is Cpu.AVX512
    with pytest.raises(UsageError, match="block of 8 floats"):
        Cpu.of_block(8, amx=True)


def test_every_kind_has_words() -> None:
    """A prediction can say which features it assumes."""
    assert len({cpu.words for cpu in Cpu}) == len(Cpu)
