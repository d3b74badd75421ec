"""Rules of the `dualpool` command itself."""

import errno
import importlib
import os
from typing import Any

import pytest

from extproc import cli
from extproc.cli import ENVIRONMENT, EXTRAS, main


@pytest.mark.parametrize("command", EXTRAS)
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """A command whose dependencies are not installed says what to install, and exits with 2."""

    def without_extras(_: str) -> Any:
        raise ModuleNotFoundError("No module named 'something'", name="something")

    monkeypatch.setattr(importlib, "import_module", without_extras)
    with pytest.raises(SystemExit) as ended:
        main([command])
    assert ended.value.code == 2
    assert (
        f"something is missing, of the extra {EXTRAS[command]}: in a clone, pip install" in capsys.readouterr().err
    )


@pytest.mark.parametrize("theirs", [None, "event_engine_listener"])
def test_libraries_are_set_before_they_are_imported(monkeypatch: pytest.MonkeyPatch, theirs: str | None) -> None:
    """`serve` runs gRPC without its event engine, unless the environment says otherwise. No other command does."""
    variable, ours = next(iter(ENVIRONMENT["serve"].items()))
    monkeypatch.setattr(os, "environ", {} if theirs is None else {variable: theirs})
    seen: list[str | None] = []

    def import_module(_: str) -> Any:
        seen.append(os.environ.get(variable))
        raise SystemExit

    monkeypatch.setattr(importlib, "import_module", import_module)
    for command in ("check", "serve"):
        with pytest.raises(SystemExit):
            main([command])
    assert seen == [theirs, theirs or ours]


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 130), (BrokenPipeError(), 141), (OSError(errno.ENOSPC, "No space left on device"), 2)],
)
def test_a_command_that_is_stopped_ends_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    """By Ctrl-C, by a reader that has gone, or by a full disk."""

    def stopped() -> int:
        raise error

    monkeypatch.setattr(cli, "main", stopped)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    assert cli.run() == code


def test_an_error_of_another_file_is_not_said_of_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a name, or is none that writing fails with."""
    for error in (OSError(errno.ENOSPC, "full", "state.json"), OSError(errno.EADDRINUSE, "in use")):

        def stopped(error: OSError = error) -> int:
            raise error

        monkeypatch.setattr(cli, "main", stopped)
        with pytest.raises(OSError, match=str(error.strerror)):
            cli.run()
