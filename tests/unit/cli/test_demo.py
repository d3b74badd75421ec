"""Rules of `extproc.cli.demo`."""

import asyncio
import gc
import signal
from argparse import Namespace
from collections.abc import Iterator

import pytest

from extproc.cli import demo
from extproc.demo.process import SIGNALS


@pytest.fixture(autouse=True)
def _handlers_restored() -> Iterator[None]:
    """Leave the test process its own reactions to signals."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def _sending(number: signal.Signals, ended: list[str]) -> None:
    """Send requests that are never answered. The signal comes while one of them is being written."""

    async def worker(name: str, *, signalled: bool) -> None:
        try:
            if signalled:
                signal.raise_signal(number)
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(worker("other", signalled=False))
        group.create_task(worker("signalled", signalled=True))


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_under_load_ends_every_request_without_a_word(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends the demo, not the request that happens to run: that would be reported with a traceback."""
    ended: list[str] = []
    monkeypatch.setattr(demo, "show", lambda *_, **__: asyncio.run(_sending(number, ended)))
    with pytest.raises(SystemExit) as exit_info:
        demo.run(Namespace(requests=1, keep=False))
    gc.collect()  # an error that nobody has taken is reported when its task is freed
    assert exit_info.value.code == 128 + number
    assert sorted(ended) == ["other", "signalled"]
    assert caplog.records == []
