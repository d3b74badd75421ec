"""`dualpool calibrate` and `dualpool explain`: what is learned from a log, and what is said of a request."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from extproc.budget.linear import KIND
from extproc.cli import main
from extproc.state.file import load

PROSE = "The service never rejects a request, whatever it is made of. "


def chat(repeats: int, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": PROSE * repeats}], **more}


def log(path: Path, lines: list[dict[str, Any]]) -> str:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def bodies(count: int = 60) -> list[dict[str, Any]]:
    """Requests under a tokenizer that needs a token for two bytes, twice what is assumed at first."""
    return [
        {"path": "/v1/chat/completions", "body": chat(n), "prompt_tokens": n * len(PROSE) // 2, "category": "prose"}
        for n in range(5, 5 + count)
    ]


def test_what_a_log_teaches_explains_a_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The state that is written makes an estimate learned, and right, that was a prior, and wrong."""
    state, body = tmp_path / "state.json", tmp_path / "body.json"
    body.write_text(json.dumps(chat(40, max_tokens=100)))
    assert main(["calibrate", log(tmp_path / "log.jsonl.gz", bodies()), "--output", str(state)]) == 0
    said = capsys.readouterr().out
    assert "prose" in said
    assert "60 requests" in said
    assert main(["explain", str(body)]) == 0
    before = capsys.readouterr().out
    assert main(["explain", str(body), "--state", str(state)]) == 0
    after = capsys.readouterr().out
    assert before.count(": prior") == after.count(": learned") == 1
    learned = int(after.partition("estimate  ")[2].split()[0])
    assert learned == pytest.approx(40 * len(PROSE) / 2, rel=0.05)
    assert "short (8192 tokens): fits" in after
    assert "would     go to long with" in after


def test_names_of_a_log_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kind of body is shown as the log has it, be there brackets in it."""
    lines = [{**line, "category": "[/a][b]"} for line in bodies(5)]
    assert main(["calibrate", log(tmp_path / "log.jsonl", lines), "--output", str(tmp_path / "state.json")]) == 0
    assert "[/a][b]" in capsys.readouterr().out


def test_a_log_of_requests_and_answers(tmp_path: Path) -> None:
    """OpenAI-style pairs are read as well, and lines without usage are passed over."""
    pairs = [
        {
            "request": line["body"],
            "response": {"usage": {"prompt_tokens": line["prompt_tokens"], "completion_tokens": 9}},
        }
        for line in bodies()
    ]
    state = tmp_path / "state.json"
    lines = [*pairs, {"request": chat(3), "response": {"error": {}}}]
    assert main(["calibrate", log(tmp_path / "log.jsonl", lines), "--output", str(state)]) == 0
    assert state.is_file()


def test_a_tokenizer_is_for_logs_that_name_some(tmp_path: Path) -> None:
    """Counts without a name are those of the server that answered."""
    lines = log(tmp_path / "log.jsonl", bodies())
    assert main(["calibrate", lines, "--output", str(tmp_path / "state.json"), "--tokenizer", "llama3"]) == 0


def test_calibrate_adds_to_what_the_file_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model calibrated after another takes nothing from it, and a third log of the first adds to it."""
    state, lines = tmp_path / "state.json", log(tmp_path / "log.jsonl", bodies())
    samples = []
    for model in ("first", "second", "first"):
        assert main(["calibrate", lines, "--output", str(state), "--model", model]) == 0
        stored = load(state)
        assert stored is not None
        samples.append({m: stored.table[KIND, m].samples for m in ("first", "second") if (KIND, m) in stored.table})
    assert samples == [{"first": 60}, {"first": 60, "second": 60}, {"first": 120, "second": 60}]
    assert capsys.readouterr().out.count("are added to what it held") == 2


def test_calibrate_leaves_a_file_that_is_no_state_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be somebody's work."""
    other = tmp_path / "other.json"
    other.write_text("{}")
    assert main(["calibrate", log(tmp_path / "log.jsonl", bodies()), "--output", str(other)]) == 2
    assert f"--output: {other}: it was not written by this program" in capsys.readouterr().err
    assert other.read_text() == "{}"


@pytest.mark.parametrize(
    ("lines", "arguments", "message"),
    [
        (
            [{"body": chat(5), "prompt_tokens": {"a": 1, "b": 2}}],
            [],
            "['a', 'b']: name one of them",
        ),
        ([{"body": chat(5), "prompt_tokens": {"a": 1}}], ["--tokenizer", "c"], "['a']: name one of them"),
        ([{"path": "/v1/models"}], [], "holds no request with text and prompt tokens (1 lines without)"),
        ([{"body": chat(5), "prompt_tokens": "many"}], [], "line 1: "),
    ],
)
def test_a_log_that_cannot_be_used(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    lines: list[dict[str, Any]],
    arguments: list[str],
    message: str,
) -> None:
    """One line says which file, where, and what to do; nothing is written."""
    state = tmp_path / "state.json"
    assert main(["calibrate", log(tmp_path / "log.jsonl", lines), "--output", str(state), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not state.exists()


@pytest.mark.parametrize("arguments", [["missing.jsonl"], ["missing.jsonl", "--output", "state.json"]])
def test_calibrate_says_what_is_missing(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """No file to write to, or none to read."""
    assert main(["calibrate", *arguments]) == 2
    assert ("--output: needed" if len(arguments) == 1 else "cannot be read") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "arguments", "lines"),
    [
        (b"not JSON", [], ["cannot be read (not_json)", "long (131072 tokens): not_json"]),
        (
            json.dumps(chat(5)).encode(),
            [],
            ["no_output_cap", "a max_tokens of its own", "with an output cap"],
        ),
        (json.dumps(chat(1000, max_tokens=5)).encode(), [], ["long (131072 tokens): fits", "tokens less"]),
        (
            b'{"prompt": [1, 2, 3], "max_tokens": 5}',
            ["--path", "/v1/completions"],
            ["3 tokens", "exact"],
        ),
        (b"{}", ["--path", "/v1/models"], ["unknown_path"]),
    ],
)
def test_explain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], body: bytes, arguments: list[str], lines: list[str]
) -> None:
    """Each kind of decision is explained, with what would change it."""
    (tmp_path / "body.json").write_bytes(body)
    assert main(["explain", str(tmp_path / "body.json"), *arguments]) == 0
    said = capsys.readouterr().out
    for line in lines:
        assert line in said


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("DUALPOOL_ROUTING__SHADOW", "true", "routing.shadow: false"),
        ("DUALPOOL_ROUTING__ROLLOUT_PERCENT", "5", "a routing.rollout_percent that"),
    ],
)
def test_explain_names_first_what_overrules_the_budget(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    key: str,
) -> None:
    """Another size of the request would change nothing."""
    monkeypatch.setenv(variable, value)
    (tmp_path / "body.json").write_text(json.dumps(chat(5, max_tokens=5)))
    assert main(["explain", str(tmp_path / "body.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("would"))
    assert lines[first].startswith(f"would     go by its budget with {key}")
    assert lines[first + 1].startswith("          which would then ask for long with ")
    assert "go to" not in "".join(lines)


@pytest.mark.parametrize(
    "arguments", [["missing.json"], ["{body}", "--state", "missing"], ["{body}", "--config", "missing"]]
)
def test_explain_says_what_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """A missing body, state or configuration is one line and exit code 2."""
    (tmp_path / "body.json").write_text("{}")
    assert main(["explain", *(a.format(body=tmp_path / "body.json") for a in arguments)]) == 2
    assert "missing" in capsys.readouterr().err
