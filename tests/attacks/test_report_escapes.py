"""A hostile model's names appear in the report as text, and never as anything else."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from onnx import TensorProto, helper

from sectum.cli.predict.predicting import Request
from sectum.cli.report.findings import Findings, gather
from sectum.cli.report.page import page
from sectum.ort.costs import Coverage
from sectum.predict.prediction import Advice

HOSTILE = [
    "<script>document.title='owned'</script>",
    "</script><script>document.title='owned'</script>",
    "<!--<script>",
    "</title><svg onload=document.title='owned'>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "' onmouseover='document.title=1' x='",
    "javascript:alert(1)",
    "{{data}}{{script}}",
    "&lt;script&gt;&amp;",
    "\\u003cscript\\u003e",
    "\u202etxet desrever\u202c",
    "\x1b[31m\x00\x08",
    "\ud800 lone",
    "]]><x>",
    "a" * 100_000,
]


class Structure(HTMLParser):
    """What elements and handlers a page has."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[str] = []
        self.handlers: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element, its handlers and its addresses."""
        self.elements.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")]


def structure(content: str) -> Structure:
    parsed = Structure()
    parsed.feed(content)
    return parsed


@pytest.fixture(scope="module")
def findings(tmp_path_factory) -> Findings:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECTUM_HOME", str(tmp_path_factory.mktemp("home")))
        request = Request(
            model="zoo:squeezenet1_1",
            enclave="softepc",
            epc_bytes=2 << 20,
        )
        return gather(request, measure=False, deadline_s=1.0, progress=lambda _what, _share: None)


def with_names(findings: Findings, name: str) -> Findings:
    """The findings with ``name`` in every place that a model, a profile or a file can fill."""
    prediction = findings.prediction
    layers = tuple(replace(layer, name=name, type=name, supported=False, fused=(name,)) for layer in prediction.layers)
    hostile = replace(
        prediction,
        model=name,
        machine=name,
        layers=layers,
        notes=(name,),
        coverage=Coverage(len(layers), 0, {name: len(layers)}),
    )
    layer = {"name": name, "type": name, "ms": 1.0, "share": 0.5, "paging_ms": 0.5, "weight_bytes": 1}
    weights = {"missing_bytes": 1, "freed_bytes": 1, "layers": [layer]}
    advice = (*findings.advice, Advice("layers", {"layers": [layer]}), Advice("weights", weights))
    return replace(findings, prediction=hostile, advice=advice, source=name, machine=name)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_name_adds_no_element_no_handler_and_no_address(findings, name):
    """A hostile name leaves the page's elements and addresses as they are and adds no event handler."""
    harmless = structure(page(with_names(findings, "harmless")))
    attacked = structure(page(with_names(findings, name)))
    assert attacked.elements == harmless.elements
    assert attacked.handlers == []
    assert attacked.addresses == harmless.addresses == ["data:,"]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_data_for_the_script_stays_json_and_inside_its_element(findings, name):
    """With a hostile name the embedded data is still valid JSON, without a character that could close its element."""
    content = page(with_names(findings, name))
    _, _, rest = content.partition('<script type="application/json" id="data">')
    data, _, _ = rest.partition("</script>")
    assert "<" not in data
    assert json.loads(data)["layers"]


def test_page_of_long_names_stays_small(findings):
    """Names of 100,000 characters are shortened: the page stays under three times its usual size."""
    assert len(page(with_names(findings, "a" * 100_000))) < 3 * len(page(findings))


def test_page_asks_the_network_for_nothing(findings):
    """The page holds no address outside itself, no import, and no url() but those of its own fragments."""
    content = page(findings)
    assert "http:" not in content
    assert "https:" not in content
    assert "@import" not in content
    assert content.count("url(") == content.count("url(#")


def test_policy_lets_only_the_pages_own_script_run(findings):
    """The content security policy denies everything by default and allows one script, by its hash."""
    content = page(findings)
    assert "default-src 'none'" in content
    assert "script-src 'sha256-" in content
    assert "unsafe-eval" not in content


def test_model_file_with_hostile_names_becomes_a_harmless_page(tmp_path):
    """A model file with hostile names gives a page with its two scripts only, and without its maker's folders."""
    name = "</script><script>document.title='owned'</script>"
    node = helper.make_node("Relu", ["x"], [name], name=name)
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 8]) for n in ("x", name)]
    model = helper.make_model(
        helper.make_graph([node], name, value[:1], value[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    path = tmp_path / "evil <b>.onnx"
    path.write_bytes(model.SerializeToString())
    request = Request(
        model=str(path),
        enclave="softepc",
    )
    found = gather(request, measure=False, deadline_s=1.0, progress=lambda _what, _share: None)
    content = page(found)
    assert structure(content).elements.count("script") == 2
    assert "evil <b>" not in content
    assert str(tmp_path) not in content, "a report that is passed on must not tell its maker's folders"
