"""What to change, computed for the model at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sectum.enclave.profile import Profile
from sectum.errors import ModelError
from sectum.graph.ir import Graph
from sectum.predict.prediction import Advice, Prediction
from sectum.predict.predictor import Predictor

LARGEST_BATCH = 64
TOP_LAYERS = 3


def advise(
    predictor: Predictor,
    read_at_batch: Callable[[int], Graph],
    prediction: Prediction,
    profile: Profile,
) -> list[Advice]:
    """Compute what would make the inference cheaper.

    Args:
        predictor: the one that made the prediction.
        read_at_batch: gives the network at another batch; may raise a ModelError where it cannot be re-batched.
        prediction: the prediction to improve on.
        profile: the enclave it was made for.
    """
    advice = [_costly_layers(prediction)]
    if profile.epc_bytes is None:
        return advice
    if prediction.overcommit.predicted:
        advice.insert(0, _enough_epc(predictor, read_at_batch(prediction.batch), prediction, profile))
        if (weights := _weights_in_the_way(prediction)) is not None:
            advice.append(weights)
    largest = _largest_batch(predictor, read_at_batch, prediction, profile)
    if largest is not None:
        advice.append(largest)
    return advice


def _enough_epc(predictor: Predictor, graph: Graph, prediction: Prediction, profile: Profile) -> Advice:
    """An EPC that holds the working set never pages, whatever the policy; a smaller one pages in every inference."""
    given = prediction.native_ms if prediction.native_source == "given" else None
    epc_bytes = prediction.memory.working_set_bytes
    there = predictor.predict(graph, profile.with_epc(epc_bytes), threads=prediction.threads, native_ms=given)
    speedup = prediction.latency_ms / there.latency_ms
    return Advice("epc", {"epc_bytes": epc_bytes, "latency_ms": there.latency_ms, "speedup": speedup})


def _costly_layers(prediction: Prediction) -> Advice:
    ranked = sorted(prediction.layers, key=lambda layer: layer.breakdown_ms.total, reverse=True)[:TOP_LAYERS]
    total = prediction.latency_ms or 1.0
    layers = [
        {"name": layer.name, "type": layer.type, "ms": layer.breakdown_ms.total,
         "share": layer.breakdown_ms.total / total, "paging_ms": layer.breakdown_ms.paging}
        for layer in ranked
    ]  # fmt: skip
    return Advice("layers", {"layers": layers})


def _weights_in_the_way(prediction: Prediction) -> Advice | None:
    """The fewest layers whose weights, if they shrank away, would make the model fit."""
    missing = -(prediction.memory.margin_bytes or 0)
    chosen, freed = [], 0
    for layer in sorted(prediction.layers, key=lambda layer: layer.weight_bytes, reverse=True):
        if freed >= missing or layer.weight_bytes == 0:
            break
        chosen.append(layer)
        freed += layer.weight_bytes
    if not chosen or freed < missing or len(chosen) > TOP_LAYERS:
        return None
    layers = [{"name": layer.name, "weight_bytes": layer.weight_bytes} for layer in chosen]
    return Advice("weights", {"missing_bytes": missing, "freed_bytes": freed, "layers": layers})


def _largest_batch(
    predictor: Predictor, read_at_batch: Callable[[int], Graph], prediction: Prediction, profile: Profile
) -> Advice | None:
    epc_bytes = profile.epc_bytes or 0
    graphs: dict[int, Graph] = {}

    def fits(batch: int) -> bool:
        graphs[batch] = read_at_batch(batch)
        return predictor.working_set_bytes(graphs[batch], threads=prediction.threads) <= epc_bytes

    try:
        fitting, failing = 0, LARGEST_BATCH + 1
        while failing - fitting > 1:
            batch = min(fitting * 2 or 1, (fitting + failing) // 2)
            if fits(batch):
                fitting = batch
            else:
                failing = batch
    except ModelError:
        return None  # hard-coded for one batch: there is nothing to advise
    values: dict[str, Any] = {"batch": fitting, "epc_bytes": epc_bytes, "or_more": fitting == LARGEST_BATCH}
    if fitting and prediction.native_source == "predicted":  # a latency that was given does not hold for other batches
        there = predictor.predict(graphs[fitting], profile, threads=prediction.threads)
        values["ms_per_image"] = there.latency_ms / fitting
    return Advice("batch", values)
