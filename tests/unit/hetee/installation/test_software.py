"""Which installed files a role gets."""

from __future__ import annotations

from importlib import metadata

import pytest

from sectum.hetee.installation import software


def test_the_runtime_for_gpus_takes_the_place_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where onnxruntime-gpu is installed in place of onnxruntime, a worker's image holds its files."""
    usual = dict(software._of_distribution("onnxruntime"))
    real = metadata.distribution

    def distribution(name: str) -> metadata.Distribution:
        if name == "onnxruntime":
            raise metadata.PackageNotFoundError(name)
        return real(name.removesuffix("-gpu"))

    monkeypatch.setattr(metadata, "distribution", distribution)
    assert dict(software._of_distribution("onnxruntime")) == usual != {}
    assert dict(software._of_distribution("no-such-package")) == {}
