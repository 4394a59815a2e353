"""For mkdocs: pages made of the files beside README.md, a list of the decision records, and GitHub's Markdown."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
BESIDE_README = ("CHANGELOG.md", "CONTRIBUTING.md", "LIMITATIONS.md", "SECURITY.md")

_INTO_DOCS = re.compile(r"(?<=\]\()docs/")
_LIST_OR_TABLE = re.compile(r"\||[-*] |\d+\. ")
_OUT_OF_DOCS = re.compile(rf"(?<=\]\()((?:\.\./)*)\.\./({'|'.join(BESIDE_README)})")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that have no file in docs/."""
    for name in BESIDE_README:
        text = _INTO_DOCS.sub("", (ROOT / name).read_text(encoding="utf-8"))
        for other in BESIDE_README:
            text = text.replace(f"]({other})", f"]({other.lower()})")
        files.append(File.generated(config, name.lower(), content=text))
    files.append(File.generated(config, "adr/decisions.md", content=_decisions()))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Turn links to the files beside README.md into links to their pages, and set lists and tables apart.

    GitHub begins a list or a table without an empty line before it; Python-Markdown does not.
    """
    lines: list[str] = []
    fenced = False
    for line in _OUT_OF_DOCS.sub(lambda found: found[1] + found[2].lower(), markdown).split("\n"):
        begins = None if fenced else _LIST_OR_TABLE.match(line)
        if begins and lines and lines[-1] and not _LIST_OR_TABLE.match(lines[-1]) and not lines[-1].startswith(" "):
            lines.append("")
        fenced ^= line.lstrip().startswith("```")
        lines.append(line)
    return "\n".join(lines)


def _decisions() -> str:
    lines = [
        "# Decisions",
        "",
        "Why Sectum is built as it is. Each record states a decision, its reason and what follows.",
        "",
    ]
    for path in sorted((ROOT / "docs" / "adr").glob("0*.md")):
        title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        lines.append(f"- [{title}]({path.name})")
    return "\n".join(lines) + "\n"
