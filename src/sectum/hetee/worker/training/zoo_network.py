"""Networks of the zoo to train. Importing this loads the zoo, but not PyTorch."""

from __future__ import annotations

from typing import Any

from sectum.errors import UsageError
from sectum.hetee.training.job import TrainingJob
from sectum.zoo.architecture import Architecture
from sectum.zoo.catalogue import network


def architecture(job: TrainingJob) -> Architecture:
    """The network that a job names.

    Raises:
        SectumError: there is none of this name, it cannot have these sizes, or it is no image classifier.
    """
    sizes: dict[str, Any] = {"classes": job.classes, "resolution": job.resolution}
    found = network(job.network, seed=job.seed, **{name: size for name, size in sizes.items() if size})
    if not isinstance(found, Architecture):
        raise UsageError(f"{job.network} is no image classifier: export it and train the ONNX model")
    return found
