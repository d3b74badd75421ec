"""A file of JSON, or the one line that says why it is none."""

import json
from pathlib import Path
from typing import Any

from extproc.planning.errors import PlanError


def read_json(path: Path) -> Any:
    """Return what the file holds. Raises `PlanError`."""
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{path}: is not JSON: {error}") from None
