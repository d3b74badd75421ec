"""What is learned outlives the process."""

import signal
from pathlib import Path

from extproc.state.file import load
from tests.envoy.stack import until
from tests.process.talk import QUICK, Serving, exchange, serving


def kept(path: Path) -> int:
    stored = load(path)
    return stored.table["linear", ""].samples if stored and stored.table else 0


def test_what_was_learned_up_to_the_last_interval_survives_a_kill(tmp_path: Path) -> None:
    """SIGKILL leaves no time for anything; the file is whole, and the next start goes on from it."""
    settings = {"state": {"file": str(tmp_path / "state.json"), **QUICK}}
    with serving(tmp_path, settings) as service:
        for _ in range(5):
            exchange(service.address)
        until(lambda: kept(tmp_path / "state.json") == 5)
        service.process.send_signal(signal.SIGKILL)
        service.process.popen.wait()
    with serving(tmp_path, settings) as service:
        assert service.samples() == 5


def test_a_shutdown_keeps_everything(tmp_path: Path) -> None:
    """However long the interval, SIGTERM writes what was learned."""
    settings = {"state": {"file": str(tmp_path / "state.json"), "interval_seconds": 300}}
    with serving(tmp_path, settings) as service:
        exchange(service.address)
        assert service.process.stop() == 0
    assert kept(tmp_path / "state.json") == 1


def test_a_torn_file_does_not_stop_the_start(tmp_path: Path) -> None:
    """It is set aside with a message, and the service learns and writes anew."""
    path = tmp_path / "state.json"
    path.write_text("torn")
    with serving(tmp_path, {"state": {"file": str(path), **QUICK}}) as service:
        assert "a new file is begun" in service.process.output()
        exchange(service.address)
        until(lambda: kept(path) == 1)


def test_a_place_that_cannot_be_written_is_survived(tmp_path: Path) -> None:
    """Requests are answered and learned from; the failure is logged once and counted."""
    with serving(tmp_path, {"state": {"file": "/proc/self/state.json", **QUICK}}) as service:
        _answers_though_failing(service)


def _answers_though_failing(service: Serving) -> None:
    assert exchange(service.address) == "short"
    until(lambda: service.metric('dualpool_state_exchanges_total{result="failed",store="file"}') > 1)
    assert exchange(service.address) == "short"
    assert service.samples() == 2
    assert service.process.output().count("state.file: ") == 1
