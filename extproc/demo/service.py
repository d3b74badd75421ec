"""`dualpool serve` as a process of its own."""

import json
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from extproc.demo.page import page, total
from extproc.demo.process import Process


class Service:
    """The service under `settings` (as in its YAML file), on free ports unless they say otherwise.

    A context manager: entered, it is ready; `port` is its gRPC port, `admin` its admin address.
    """

    def __init__(self, settings: dict[str, Any], directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        server = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "lame_duck_seconds": 0, "drain_seconds": 1}
        file = directory / "dualpool.yaml"
        file.write_text(yaml.safe_dump({**settings, "server": {**server, **settings.get("server", {})}}), "utf-8")
        # The settings are those of the file alone, whatever the caller's environment says.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("DUALPOOL_")}
        command = [sys.executable, "-m", "extproc", "serve", "--config", str(file)]
        self.process = Process(command, directory / "service.log", environment)
        self.port = 0
        self.admin = ""

    def __enter__(self) -> Self:
        self.process.__enter__()
        try:
            found = self.process.wait_for_output(r"\(port (\d+)\), admin on (\S+:\d+)")
        except BaseException:
            self.process.stop()
            raise
        self.port, self.admin = int(found[1]), found[2]
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.process.stop()

    def get(self, path: str) -> str:
        """Return the admin page at `path`."""
        return page(self.admin, path)

    def count(self, metric: str, **labels: str) -> float:
        """Return a metric, summed over the series that have `labels`."""
        return total(self.get("/metrics"), metric, **labels)

    def state(self) -> dict[str, Any]:
        """Return /state."""
        state: dict[str, Any] = json.loads(self.get("/state"))
        return state
