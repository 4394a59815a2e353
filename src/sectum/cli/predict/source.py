"""The network that the command line names: a file, or ``zoo:NAME``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sectum.cli.options import Inputs
from sectum.errors import ModelMalformed, ModelUnreadable, OperatorUnsupported, ShapeInconsistent, UsageError

if TYPE_CHECKING:
    from sectum.graph import Model, ParsedModel
    from sectum.graph.inference_context import Typed
    from sectum.graph.ir import Graph
    from sectum.zoo import Architecture, Program

ZOO = "zoo:"
CLASSICAL = "ai.onnx.ml"


class Source:
    """One network, as often as it is needed.

    Args:
        text: a path, or ``zoo:NAME``.
        batch: samples in one inference; None for the file's own, or 1 where that is open.
        inputs: shapes or values of inputs by name.
        width: of an image classifier of the zoo, over that of the published one.
    """

    def __init__(
        self, text: str, *, batch: int | None = None, inputs: Inputs | None = None, width: float = 1.0
    ) -> None:
        self.text = text
        self.width = width
        self.batch = batch
        self.inputs = inputs or {}
        self._learned: Mapping[str, Typed] = {}
        self._how_learned: list[str] = []

    @property
    def from_zoo(self) -> bool:
        """Whether it is made, not read."""
        return self.text.startswith(ZOO)

    @property
    def name(self) -> str:
        """What people call it: the file's stem, or the name in the zoo."""
        return self.network.name if self.from_zoo else Path(self.text).stem

    @property
    def sha256(self) -> str | None:
        """SHA-256 of the model's file; None where there is no file."""
        return None if self.from_zoo else self._parsed.sha256

    @cached_property
    def graphs(self) -> list[Graph]:
        """The network with static shapes: more than one graph where the inputs' values decide between branches.

        Networks of the zoo are laid out without making their weights.

        Raises:
            OperatorUnsupported: the network has loops, or too many branches.
            ShapeUnbound: the value of an input decides between branches and was not given.
        """
        if self.from_zoo:
            from sectum import zoo

            return [zoo.to_graph(self.network, self._zoo_batch)]
        from sectum.cli.predict.control_flow import alternatives

        with self._naming_the_file():
            return alternatives(self.model, self._batch, self.inputs, self._learned)

    @property
    def graph(self) -> Graph:
        """The network with static shapes.

        Raises:
            OperatorUnsupported: the inputs' values decide what runs; see `graphs`.
        """
        graph, *others = self.graphs
        if others:
            raise OperatorUnsupported(
                "the values of the inputs decide which branches run: give the values with --input-file, or use the "
                "page model"
            )
        return graph

    @cached_property
    def model(self) -> Model:
        """The network with its weights, as it is run."""
        if self.from_zoo:
            from sectum import zoo
            from sectum.graph import read

            return read(zoo.to_bytes(self.network, batch=self._zoo_batch))
        from sectum.graph.inference_context import ShapeUnknown

        parsed = self._parsed
        with self._naming_the_file():
            try:
                return parsed.bind(batch=self._batch, inputs=self.inputs)
            except ShapeUnknown as problem:
                from sectum.cli.predict.probing import shapes_by_running

                self._learned, self._how_learned = shapes_by_running(parsed, problem, self._batch, self.inputs)
                return parsed.bind(batch=self._batch, inputs=self.inputs, learned=self._learned)

    @property
    def notes(self) -> list[str]:
        """What a person should know about how the network was read."""
        if self.from_zoo:
            return []
        notes = [*self.model.notes, *self._how_learned]
        lengths = self._parsed.open_lengths(self.inputs) if self.batch is None else []
        if lengths:
            named = ", ".join(lengths[:4])
            notes.append(f"the file leaves the size of {named} open, and 1 is predicted: give it with --input")
        return notes

    @cached_property
    def _batch(self) -> int | None:
        """The batch to bind the file to: 1 where it leaves the number of samples open."""
        if self.batch is not None or not self._parsed.needs_batch(self.inputs):
            return self.batch
        return 1

    @cached_property
    def _parsed(self) -> ParsedModel:
        """The model's file, which is opened and parsed once."""
        from sectum.graph import parse

        self._check_path()
        with self._naming_the_file():
            parsed = parse(Path(self.text))
        for (domain, kind), operator in parsed.operator_types.items():
            if domain == CLASSICAL:
                raise OperatorUnsupported(
                    f"{self.text}: operator '{operator.name or operator.outputs[0]}' ({domain}:{kind}) belongs to "
                    "classical machine learning, not to a neural network: Sectum does not model its cost"
                )
        return parsed

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        """Make sure that errors about the model name its file."""
        try:
            yield
        except ModelMalformed as error:
            if self.text in str(error):
                raise
            raise ModelMalformed(f"{self.text}: {error}") from error

    @cached_property
    def network(self) -> Architecture | Program:
        """The network of the zoo; one for images has the resolution that the inputs ask for."""
        from sectum import zoo

        name = self.text.removeprefix(ZOO)
        network = zoo.network(name, width=self.width)
        if not self.inputs:
            return network
        if isinstance(network, zoo.Program):
            raise UsageError(
                f"{ZOO}{network.name} has inputs of fixed sizes: leave out --input, or write the network with "
                "'sectum zoo export' and change it; --batch is possible"
            )
        from sectum.zoo.lowering import INPUT

        shape = self.inputs.get(INPUT, ())
        if isinstance(shape, tuple) and len(shape) == 4 and len(self.inputs) == 1:
            _, channels, height, width = shape
        else:
            channels = height = width = 0
        if channels != 3 or height != width:
            raise UsageError(
                "networks of the zoo have one input of square images in three channels: write for example "
                f"--input {INPUT}=1x3x192x192"
            )
        if self.batch is not None and self.batch != shape[0]:
            raise UsageError(f"--batch {self.batch} contradicts --input with a batch of {shape[0]}: leave one out")
        return zoo.network(name, resolution=shape[2], width=self.width)

    def at_batch(self, batch: int) -> Graph:
        """Give the same network with another number of samples. Nothing is read again.

        Raises:
            ModelError: it cannot be re-batched.
        """
        if batch == self.batch:
            return self.graphs[0]
        if self.from_zoo:
            from sectum import zoo

            return zoo.to_graph(self.network, batch)
        if self._learned or len(self.graphs) > 1:
            raise ShapeInconsistent(
                "a run of the model told its shapes, or the inputs' values decide its branches: give --batch instead"
            )
        with self._naming_the_file():
            return self._parsed.bind(batch=batch, inputs=self._parsed.rebatched(self.inputs, batch)).graph

    def _check_path(self) -> None:
        """Say what else was probably meant where there is no such file."""
        if not self.text:
            raise UsageError("the model's name is empty: give the path of an ONNX file, or zoo:NAME")
        path = Path(self.text)
        if path.exists():
            return
        from sectum import zoo

        name = path.name.lower()
        if name in (*zoo.names(), *zoo.program_names()):
            raise ModelUnreadable(f"there is no file '{self.text}': did you mean {ZOO}{name}?")

    @property
    def _zoo_batch(self) -> int:
        shapes = [given[0] for given in self.inputs.values() if isinstance(given, tuple)]
        return self.batch or next(iter(shapes), 1)
