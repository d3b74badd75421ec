"""Admin pages of the processes of the demo."""

import urllib.request

ANSWER_SECONDS = 30.0
"""How long a page may take, on a machine that does much else."""

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""A proxy that the environment names leads to other machines, and knows nothing of this one."""


def page(address: str, path: str) -> str:
    """Return the page at `path` of the server at `address`, HOST:PORT. Raises `OSError`."""
    with _DIRECT.open(f"http://{address}{path}", timeout=ANSWER_SECONDS) as answer:
        text: str = answer.read().decode()
        return text


def total(text: str, metric: str, **labels: str) -> float:
    """Sum a metric on a page of metrics, `text`, over the series that have `labels`."""
    found = 0.0
    for line in text.splitlines():
        if line.startswith(f"{metric}{{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
            found += float(line.rpartition(" ")[2])
    return found
