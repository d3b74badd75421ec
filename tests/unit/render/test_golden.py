"""The files under envoy/ are what the commands render, no more and no less."""

from pathlib import Path

import pytest

from tests.golden import ROOT, write


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("golden")
    write(root)
    return files(root)


def files(root: Path) -> dict[str, str]:
    paths = [
        path
        for name in ("standalone", "compose", "gateway-api", "istio")
        for path in root.glob(f"envoy/{name}/**/*.yaml")
    ]
    return {str(path.relative_to(root)): path.read_text() for path in sorted(paths)}


def test_golden(rendered: dict[str, str]) -> None:
    """Each rendered file is the one in the repository; `make golden` renders them again."""
    shipped = files(ROOT)
    assert {name: shipped.get(name) for name in rendered} == rendered


def test_nothing_by_hand(rendered: dict[str, str]) -> None:
    """Every other file there is a configuration of Dualpool, from which they are rendered."""
    by_hand = [name for name in files(ROOT) if name not in rendered]
    assert [name for name in by_hand if not Path(name).name.startswith("dualpool")] == []
