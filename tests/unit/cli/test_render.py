"""Options of `dualpool render`."""

import argparse

import pytest

from extproc.cli import main
from extproc.cli.render import APPLIES, add_arguments
from extproc.render.target import TARGETS

FOR_ALL = {"config", "output"}
GIVEN = {
    "exchange": ["body"],
    "usage": ["response-body"],
    "envoy": ["1.37"],
    "listen": ["127.0.0.1:80"],
    "admin": ["127.0.0.1:9901"],
    "service": ["127.0.0.1:50051"],
    "json_log": ["log"],
    "name": ["x.yaml"],
    "namespace": ["default"],
    "inference_pools": [],
}
NOWHERE = [(kind, option) for kind in TARGETS for option, kinds in APPLIES.items() if kind not in kinds]


@pytest.mark.parametrize(("kind", "option"), NOWHERE)
def test_an_option_that_does_not_apply_is_refused(
    kind: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given, be it as it is by default, it is named, in place of being ignored."""
    flag = f"--{option.replace('_', '-')}"
    assert main(["render", kind, flag, *GIVEN[option]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{flag}: {kind} has none: it goes with {', '.join(APPLIES[option])}"


def test_a_name_is_refused_where_no_file_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed has no name."""
    assert main(["render", "envoy", "--name", "x.yaml"]) == 2
    assert capsys.readouterr().err == "--name: names the file that is written to --output, which is not given\n"


def test_each_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each."""
    assert main(["render", "istio", "--listen", "127.0.0.1:80", "--inference-pools"]) == 2
    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "--listen",
        "--inference-pools",
    ]


def test_of_every_option_it_is_known_where_it_applies() -> None:
    """A new one is to be thought of."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = {action.dest for action in parser._actions if action.option_strings}
    assert options - {"help"} == FOR_ALL | APPLIES.keys()
