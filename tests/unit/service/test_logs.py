"""Structured logs."""

import json
import logging
from collections.abc import Iterator

import pytest

from extproc.service import logs

CORE = "grpc._cython.cygrpc"
RESET = "ExecuteBatchError raised in core by servicer method [%s]"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root, core = logging.getLogger(), logging.getLogger(CORE)
    level, handlers, filters = root.level, root.handlers[:], core.filters[:]
    root.handlers = []
    yield
    root.handlers, core.filters = handlers, filters
    root.setLevel(level)


def test_a_call_that_envoy_resets_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    """gRPC reports one whose status was being sent, with a traceback. What else it has to say is logged."""
    logs.configure("info")
    for message in (RESET, "Unexpected [%s] raised"):
        logging.getLogger(CORE).error(message, "x")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["logger"], line["message"]) for line in lines] == [
        ("error", CORE, "Unexpected [x] raised")
    ]
