"""What to change, computed for the model at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sectum.enclave.profile import Profile
from sectum.enclave.replacement import smallest_epc
from sectum.errors import ModelError
from sectum.graph.ir import Graph
from sectum.predict.prediction import Advice, Prediction
from sectum.predict.predictor import Predictor
from sectum.units import PAGE_BYTES, format_bytes

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
    given = prediction.native_ms if prediction.native_source == "given" else None
    prepared = predictor.prepare(graph, threads=prediction.threads, native_ms=given)
    epc_bytes = smallest_epc(prepared.trace.touches, profile.policy) * PAGE_BYTES
    there = predictor.in_enclave(prepared, profile.with_epc(epc_bytes))
    speedup = prediction.latency_ms / there.latency_ms
    return Advice(
        "epc",
        f"Paging stops at {format_bytes(epc_bytes)} of protected memory; an inference then takes "
        f"{there.latency_ms:.1f} ms, {speedup:.1f} times faster.",
        {"epc_bytes": epc_bytes, "latency_ms": there.latency_ms, "speedup": speedup},
    )


def _costly_layers(prediction: Prediction) -> Advice:
    ranked = sorted(prediction.layers, key=lambda layer: layer.breakdown_ms.total, reverse=True)[:TOP_LAYERS]
    total = prediction.latency_ms or 1.0
    layers = [
        {"name": layer.name, "type": layer.type, "ms": layer.breakdown_ms.total,
         "share": layer.breakdown_ms.total / total, "paging_ms": layer.breakdown_ms.paging}
        for layer in ranked
    ]  # fmt: skip
    share = sum(layer.breakdown_ms.total for layer in ranked) / total
    names = ", ".join(f"{layer.name} ({layer.breakdown_ms.total:.1f} ms)" for layer in ranked)
    return Advice("layers", f"The costliest layers take {share:.0%} of the time: {names}.", {"layers": layers})


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
    names = ", ".join(f"{layer.name} ({format_bytes(layer.weight_bytes)})" for layer in chosen)
    return Advice(
        "weights",
        f"It is over by {format_bytes(missing)}, and these layers hold {format_bytes(freed)} of weights: {names}. "
        "Shrinking them, or running them in another enclave, makes the rest fit.",
        {
            "missing_bytes": missing,
            "layers": [{"name": layer.name, "weight_bytes": layer.weight_bytes} for layer in chosen],
        },
    )


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
    epc = format_bytes(epc_bytes)
    if fitting == 0:
        return Advice("batch", f"No batch fits {epc} without paging, not even one image.", {"batch": 0})
    more = " or more" if fitting == LARGEST_BATCH else ""
    text = f"The largest batch that fits {epc} without paging is {fitting}{more}"
    values: dict[str, Any] = {"batch": fitting}
    if prediction.native_source == "predicted":  # a native latency that was given does not hold for other batches
        there = predictor.predict(graphs[fitting], profile, threads=prediction.threads)
        values["ms_per_image"] = there.latency_ms / fitting
        text += f": {values['ms_per_image']:.2f} ms an image"
    return Advice("batch", text + ".", values)
