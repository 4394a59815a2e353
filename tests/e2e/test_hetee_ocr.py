"""Text in a picture, read by three trained networks of somebody else, all of whose computing is done in an enclave."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image, ImageDraw, ImageFont

from hetee_rack import Rack
from sectum.hetee.client import Session

LINES = ("Confidential 2026", "rack of enclaves", "turned around")
SPEC = importlib.util.find_spec("rapidocr")
pytestmark = pytest.mark.skipif(SPEC is None, reason="pip install --no-deps rapidocr: its wheel carries the networks")
DETECTION, ORIENTATION, RECOGNITION = "PP-OCRv6_det_small", "ch_ppocr_mobile_v2.0_cls_mobile", "PP-OCRv6_rec_small"


def network(name: str) -> Path:
    """The file of a network."""
    assert SPEC is not None
    assert SPEC.origin is not None
    return Path(SPEC.origin).parent / "models" / f"{name}.onnx"


def line(text: str, height: int = 48) -> Image.Image:
    """A text as an image of one line, black on white."""
    font = ImageFont.load_default(height * 2 // 3)
    width = int(font.getlength(text)) + height // 2
    image = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(image).text((height // 4, height // 10), text, fill="black", font=font)
    return image


def page() -> Image.Image:
    """The lines below each other, the last one upside down."""
    image = Image.new("RGB", (480, 240), "white")
    for number, text in enumerate(LINES):
        image.paste(line(text).rotate(180 * (number == 2)), (20, 20 + 70 * number))
    return image


def numbers(images: list[Image.Image], width: int, height: int) -> np.ndarray:
    """Images as these networks want them: blue first, from -1 to 1, padded on the right."""
    batch = np.zeros((len(images), 3, height, width), np.float32)
    for row, image in zip(batch, images, strict=True):
        pixels = np.asarray(image, np.float32)[:height, :width, ::-1].transpose(2, 0, 1) / 127.5 - 1
        row[:, : pixels.shape[1], : pixels.shape[2]] = pixels
    return batch


def single_thread(path: Path) -> onnxruntime.InferenceSession:
    """ONNX Runtime as a worker has it: on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def spelled(scores: np.ndarray, alphabet: list[str]) -> list[str]:
    """The texts that scores of shape (lines, places, letters) say: repetitions and blanks, letter 0, left out."""
    texts = []
    for best in scores.argmax(2):
        kept = best[(best != np.concatenate([[0], best[:-1]])) & (best != 0)]
        texts.append("".join(alphabet[letter - 1] for letter in kept))
    return texts


@pytest.fixture(scope="module")
def session(rack: Rack) -> Iterator[Session]:
    """One enclave for all networks."""
    with rack.connect() as opened:
        yield opened


def test_three_trained_networks_give_what_they_give_without_the_service(session: Session) -> None:
    """Each network's outputs on a real picture are those of ONNX Runtime alone, bit for bit, and the text is read."""
    upright = [line(text) for text in LINES]
    inputs = {
        DETECTION: numbers([page()], 480, 256),
        ORIENTATION: numbers([upright[0], upright[0].rotate(180)], 192, 48),
        RECOGNITION: numbers(upright, 480, 48),
    }
    found = {}
    for name, batch in inputs.items():
        here = single_thread(network(name))
        (expected,) = here.run(None, {"x": batch})
        session.load(network(name))
        (found[name],) = session.infer(batch, deadline_ms=600_000).outputs.values()
        np.testing.assert_array_equal(found[name], expected)
    heat = found[DETECTION][0, 0]
    assert all(heat[20 + 70 * number :][:48].max() > 0.8 for number in range(3)), "a line was not found"
    assert list(found[ORIENTATION].argmax(1)) == [0, 1], "upright and upside down"
    # The network's last letter is the space, which its file does not list.
    alphabet = [*here.get_modelmeta().custom_metadata_map["character"].splitlines(), " "]
    assert spelled(found[RECOGNITION], alphabet) == list(LINES)


def pipeline() -> Callable[[np.ndarray], Any]:
    """The package's own way from a picture to its texts, each network on one thread."""
    from rapidocr import RapidOCR

    read: Callable[[np.ndarray], Any] = RapidOCR(
        params={"EngineConfig.onnxruntime.intra_op_num_threads": 1, "Global.log_level": "error"}
    )
    return read


def test_a_page_is_read_through_the_service_as_without_it(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's own pipeline, its ONNX sessions replaced by the service, reads the same text at the same places."""
    place = pytest.importorskip(
        "rapidocr.inference_engine.onnxruntime.main",
        reason="what rapidocr itself needs (OpenCV and others) is not installed: pip install rapidocr",
        exc_type=ImportError,
    )
    computed: list[str] = []

    class InEnclave(onnxruntime.InferenceSession):  # type: ignore[misc]
        """Says what the model's file says; computes nothing here."""

        def __init__(self, path: str, *arguments: Any, **options: Any) -> None:
            super().__init__(path, *arguments, **options)
            self._name, self._loaded = Path(path).stem, session.load(path)

        def run(self, outputs: list[str], inputs: dict[str, np.ndarray], _options: Any = None) -> list[np.ndarray]:
            computed.append(self._name)
            result = session.submit(inputs, outputs=tuple(outputs), model=self._loaded, deadline_ms=600_000).result()
            return [result.outputs[name] for name in outputs]

    picture = np.asarray(page())[:, :, ::-1]
    expected = pipeline()(picture)
    monkeypatch.setattr(place, "InferenceSession", InEnclave)
    found = pipeline()(picture)
    assert set(computed) == {DETECTION, ORIENTATION, RECOGNITION}
    assert found.txts == expected.txts == LINES
    assert found.scores == expected.scores
    np.testing.assert_array_equal(found.boxes, expected.boxes)
