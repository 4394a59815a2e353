"""The client library for data owners.

::

    from sectum.hetee.client import connect

    with connect("127.0.0.1:7625", "policy.json") as session:
        session.load("resnet50.onnx")
        result = session.infer(["cat.jpg", "dog.jpg"])
        print(result.outputs, result.receipt)

The client sends its identity only after it has verified the controller's evidence and the policy has accepted it. It
sends models and images only after the same check of the worker.
"""

from __future__ import annotations

from sectum.hetee.client.asynchronous import AsyncSession, connect_async
from sectum.hetee.client.bundle import CheckedBundle, ReceiptBundle, check_bundle, read_bundle
from sectum.hetee.client.checkpoint import Checkpoint
from sectum.hetee.client.connecting import connect
from sectum.hetee.client.identity import load_identity, make_identity
from sectum.hetee.client.results import LoadedModel, Result
from sectum.hetee.client.session import Session
from sectum.hetee.client.training import Step, Training
from sectum.hetee.client.trust import Trust, read_policy_file
from sectum.hetee.training.job import Optimiser, TrainingJob

__all__ = [
    "AsyncSession",
    "CheckedBundle",
    "Checkpoint",
    "LoadedModel",
    "Optimiser",
    "ReceiptBundle",
    "Result",
    "Session",
    "Step",
    "Training",
    "TrainingJob",
    "Trust",
    "check_bundle",
    "connect",
    "connect_async",
    "load_identity",
    "make_identity",
    "read_bundle",
    "read_policy_file",
]
