"""The documentation that is made from the code is what the code says."""

from pathlib import Path

from extproc.cli import reference
from extproc.config import Config
from extproc.config_file import load

DOCS = Path(__file__).parents[2] / "docs"


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
