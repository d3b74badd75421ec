"""The documentation that is made from the code is what the code says."""

import ast
import re
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import CollectorRegistry

from extproc.cli import reference
from extproc.config import Config
from extproc.config_file import load
from extproc.metrics import Metrics, export_learned, export_pressure, export_workers
from extproc.routing.decision import Reason

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

ROOMS = dict(
    re.findall(r"^\| `extproc/(\w+)/` \|.*\| ([^|]+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
)
"""What each room may import, in words."""


def test_the_configuration_reference_is_current() -> None:
    """docs/configuration.md is the output of `dualpool reference`; `make docs` writes it."""
    assert (DOCS / "configuration.md").read_text("utf-8") == "\n".join(reference.markdown()) + "\n"


def test_the_example_file_is_current_and_holds_the_defaults() -> None:
    """docs/dualpool.yaml is the output of `dualpool reference --yaml`, and loading it changes nothing."""
    example = DOCS / "dualpool.yaml"
    assert example.read_text("utf-8") == "\n".join(reference.example()) + "\n"
    assert load(example, {}) == Config()


def test_every_key_has_a_description() -> None:
    """No key is left unexplained."""
    undescribed = [line for line in reference.markdown() if line.endswith("| . |")]
    assert undescribed == []


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_rooms_import_what_the_map_says(room: str) -> None:
    """The table of CONTRIBUTING.md is what holds; `config` stands for the modules about it."""
    imported = set()
    for file in (ROOT / "extproc" / room).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("extproc."):
                imported.add((node.module or "").split(".")[1].partition("_")[0])
    allowed = set(ROOMS) | {"config"} if ROOMS[room] == "all of them" else set(ROOMS[room].split(", "))
    assert imported - {room} <= allowed


def test_every_room_is_on_the_map() -> None:
    """And none that is not there."""
    assert {path.parent.name for path in (ROOT / "extproc").glob("*/__init__.py")} == set(ROOMS)


def test_every_metric_is_in_the_table() -> None:
    """The table of docs/operations.md names all metrics there are, and none that is not there."""
    registry = CollectorRegistry()
    Metrics(registry)
    export_learned(registry, dict)
    export_pressure(registry, dict, dict)
    export_workers(registry, lambda: 0)
    names = {f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in registry.collect()}
    page = (DOCS / "operations.md").read_text("utf-8").partition("## Metrics\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`dualpool_[^|]+) \|", page, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(names)


def test_every_reason_is_in_the_table() -> None:
    """The table of docs/how-it-works.md explains all reasons there are, and none that is not there."""
    table = (DOCS / "how-it-works.md").read_text("utf-8").partition("| reason | meaning |\n")[2]
    rows = " ".join(re.findall(r"^\| (`[^|]+) \|", table.partition("\n\n")[0], re.MULTILINE))
    reasons = [reason for each in get_args(Reason) for reason in get_args(each)]
    assert sorted(re.findall(r"`(\w+)`", rows)) == sorted(reasons)


HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(DOCS.glob("*.md"))]


def anchors(page: Path) -> set[str]:
    """What the headings of a page can be linked by, as GitHub makes it of them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    plain = (re.sub(r"[^\w -]", "", heading.lower()) for heading in HEADING.findall(text))
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    """Each link to a page or file of the project finds it, and the heading it names."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if link.startswith("https:"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
