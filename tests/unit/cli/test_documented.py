"""The commands of the planning documents are commands, and the worked example comes out as it is told."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

from extproc.cli import main, plan, simulate

DOCS = Path(__file__).parents[3] / "docs"
STAND_INS = (("AZURE", "conv.csv code.csv"), ("DATA/", ""))
EXAMPLE = [
    ("--concurrency reserved --ttft 4", "Splitting saves 23.2%", 0),
    ("--ttft 4", "Splitting does not pay", 0),
    (
        "--concurrency reserved --ttft 2 --check --requests 20000",
        "Splitting does not pay against one pool at 65536. At the best threshold, 49152",
        0,
    ),
]


def commands(name: str) -> list[str]:
    """The lines of shell in a document, continued ones joined."""
    blocks = re.findall(r"```sh\n(.*?)```", (DOCS / name).read_text("utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


@pytest.mark.parametrize("name", ["planning.md", "reproduction.md"])
def test_commands_have_the_options_there_are(name: str) -> None:
    """Every `plan` and `simulate` of a document is understood by its parser."""
    found = 0
    for line in commands(name):
        words = line.replace("[", "").replace("]", "").split()
        if words[:2] not in (["dualpool", "plan"], ["dualpool", "simulate"]):
            continue
        text = " ".join(words[2:])
        for stand_in, files in STAND_INS:
            text = text.replace(stand_in, files)
        parser = argparse.ArgumentParser()
        (plan if words[1] == "plan" else simulate).add_arguments(parser)
        parser.parse_args(text.split())
        found += 1
    assert found >= 4


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trace that the worked example makes, by the lines of the document."""
    text = (DOCS / "planning.md").read_text("utf-8")
    script = re.search(r"python3 - <<'END' > example.csv\n(.*?)\nEND\n", text, re.DOTALL)
    assert script
    path = tmp_path_factory.mktemp("example") / "example.csv"
    made = subprocess.run([sys.executable, "-c", script[1]], check=True, capture_output=True, text=True)
    path.write_text(made.stdout)
    return path


@pytest.mark.no_cover  # of a large trace; test_plan does the same with a small one
@pytest.mark.parametrize(("options", "says", "code"), EXAMPLE)
def test_worked_example(
    example: Path, capsys: pytest.CaptureFixture[str], options: str, says: str, code: int
) -> None:
    """Each command of the worked example says what the document quotes."""
    assert main(["plan", str(example), "--rate", "200", "--poisson", *options.split()]) == code
    assert says in capsys.readouterr().out
    assert says in " ".join((DOCS / "planning.md").read_text("utf-8").split())
