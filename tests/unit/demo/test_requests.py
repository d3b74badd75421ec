"""The demo's load: real text, all kinds, the same at every run."""

from collections import Counter

from extproc.demo import texts
from extproc.demo.requests import mixed


def test_the_same_seed_gives_the_same_requests() -> None:
    """And another seed others."""
    assert list(mixed(20, 1)) == list(mixed(20, 1))
    assert list(mixed(20, 1)) != list(mixed(20, 2))


def test_the_load_is_mixed() -> None:
    """Every kind is there, with and without a cap, streamed and not, usage asked for and not."""
    requests = list(mixed(300, 1))
    assert set(Counter(r.kind for r in requests)) == {
        "chat",
        "code",
        "Chinese",
        "Japanese",
        "JSON, tools",
        "paths, hashes",
        "long document",
    }
    for field in ("max_tokens", "stream", "stream_options", "tools", "prompt"):
        assert 0 < sum(field in r.body for r in requests) < len(requests)


def test_names_are_in_their_script() -> None:
    """Chinese names have Chinese characters, Japanese ones kana."""
    assert "阿富汗" in texts.names("zh_CN")
    assert "アフガニスタン" in texts.names("ja")


def test_tools_are_described_by_their_own_documentation() -> None:
    """A tool has the name, text and parameters of its function."""
    tool = next(t["function"] for t in texts.tools() if t["function"]["name"] == "median_low")
    assert tool["description"].startswith("Return the low median of numeric data.")
    assert tool["parameters"]["required"] == ["data"]


def test_tools_are_the_same_at_every_run() -> None:
    """No address of an object is in them, which another process has elsewhere."""
    assert " at 0x" not in texts.compact(texts.tools())
