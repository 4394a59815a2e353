"""Each accelerator passes the suite; those that this machine does not have are skipped with their reason."""

from __future__ import annotations

import onnxruntime
import pytest

from hetee_accelerator_conformance import AcceleratorConformance
from sectum.hetee.errors import Refusal, ServiceRefused
from sectum.hetee.worker.accelerators import accelerator as make
from sectum.hetee.worker.accelerators.protocol import Accelerator


class TestCpu(AcceleratorConformance):
    """ONNX Runtime on one thread."""

    @pytest.fixture
    def accelerator(self) -> Accelerator:
        """Give a CPU."""
        return make("cpu:0")


class TestCpuOnTwoThreads(AcceleratorConformance):
    """ONNX Runtime with threads of its own."""

    @pytest.fixture
    def accelerator(self) -> Accelerator:
        """Give a CPU."""
        return make("cpu:1", threads=2)


class TestPaced(AcceleratorConformance):
    """The paced accelerator."""

    @pytest.fixture
    def accelerator(self) -> Accelerator:
        """Give a paced one."""
        return make("paced:0")


class TestCuda(AcceleratorConformance):
    """ONNX Runtime on a GPU."""

    @pytest.fixture
    def accelerator(self) -> Accelerator:
        """Give the first GPU."""
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            pytest.skip("this build of ONNX Runtime cannot use CUDA: install onnxruntime-gpu on a machine with a GPU")
        return make("cuda:0")


def test_a_missing_gpu_is_said() -> None:
    """If CUDA cannot be used, the accelerator is refused instead of falling back to the CPU."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine may have a GPU")
    with pytest.raises(ServiceRefused) as caught:
        make("cuda:0")
    assert caught.value.code is Refusal.NO_ACCELERATOR
    assert "onnxruntime-gpu" in caught.value.detail


def test_other_kinds_do_not_exist() -> None:
    """A name of no known kind is refused."""
    with pytest.raises(ValueError, match="tpu"):
        make("tpu:0")
