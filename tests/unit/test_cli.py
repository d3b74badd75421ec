"""Rules of the `dualpool` command itself."""

import importlib
from typing import Any

import pytest

from extproc.cli import COMMANDS, EXTRAS, main


@pytest.mark.parametrize("command", sorted(set(EXTRAS) & set(COMMANDS)))
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
    assert f"something is missing: pip install 'dualpool[{EXTRAS[command]}]'" in capsys.readouterr().err
