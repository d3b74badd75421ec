"""What the in-proxy filter is to lift from a body, said by a JSON parser of all of it."""

import json

from extproc.body.lifted import NOTED_FIELDS, REQUEST_FIELDS, Lifted


def lifted(raw: bytes) -> Lifted:
    """Return strings, numbers, booleans, and of any object at all that it was there; nothing of anything else."""
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    if not isinstance(body, dict):
        return {}
    found = {name: body[name] for name in REQUEST_FIELDS if isinstance(body.get(name), str | int | float)}
    noted = {name: True for name in NOTED_FIELDS if body.get(name) is not None}
    return {"json": True, **{k: v if isinstance(v, bool | str) else float(v) for k, v in found.items()}, **noted}
