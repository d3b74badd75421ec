"""Reloading a running service."""

import signal
from pathlib import Path

import yaml

from tests.envoy.stack import until
from tests.process.talk import SERVER, configuration, exchange, mount, serving

OK = 'dualpool_config_reloads_total{result="ok"}'
REJECTED = 'dualpool_config_reloads_total{result="rejected"}'
IN_FORCE = "dualpool_config_last_reload_successful"


def write(directory: Path, text: str) -> None:
    """As a careful writer does: another file, renamed over the old one."""
    (directory / "new").write_text(text, "utf-8")
    (directory / "new").replace(directory / "dualpool.yaml")


def test_a_hangup_reloads_and_keeps_what_was_learned(tmp_path: Path) -> None:
    """The next request is routed by the new configuration, with the old figures."""
    with serving(tmp_path, {}) as service:
        assert exchange(service.address) == "short"
        small = [{"name": "short", "capacity": 1000}, {"name": "long", "capacity": 131_072}]
        write(tmp_path, yaml.safe_dump({"server": SERVER, "pools": {"default": small}}))
        service.process.send_signal(signal.SIGHUP)
        until(lambda: service.metric(OK) >= 1)
        assert exchange(service.address) == "long"
        assert service.samples() == 2


def test_a_changed_file_is_noticed_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    """Every problem is logged, the attempt is counted, the old configuration stays. A change may take a restart."""
    with serving(tmp_path, {}) as service:
        assert service.metric(IN_FORCE) == 1
        write(tmp_path, "routing: {shadow: maybe, colour: red}")
        until(lambda: service.metric(REJECTED) == 1)
        until(lambda: service.metric(IN_FORCE) == 0)
        assert service.process.output().count("configuration not reloaded") == 2
        assert service.state()["shadow"] is False
        good = {"server": SERVER, "routing": {"shadow": True}, "state": {"interval_seconds": 9}}
        write(tmp_path, yaml.safe_dump(good))
        until(lambda: service.metric(OK) == 1)
        until(lambda: service.metric(IN_FORCE) == 1)
        assert exchange(service.address) == "long"
        (said,) = [line for line in service.process.output().splitlines() if "needs a restart" in line]
        assert "a change of state needs a restart" in said


def test_pools_that_come_and_go_are_named(tmp_path: Path) -> None:
    """The proxy has to know them. Nothing is said of what else changes."""
    pools = [{"name": "small", "capacity": 1000}, {"name": "long", "capacity": 131_072}]
    said = "new pools: "
    with serving(tmp_path, {}) as service:
        write(tmp_path, yaml.safe_dump({"server": SERVER, "routing": {"shadow": True}}))
        until(lambda: service.metric(OK) == 1)
        assert said not in service.process.output()
        write(tmp_path, yaml.safe_dump({"server": SERVER, "pools": {"default": pools}}))
        until(lambda: service.metric(OK) == 2)
        assert service.process.output().count(f"{said}small, removed: short;") == 1


def test_another_largest_pool_is_named(tmp_path: Path) -> None:
    """The proxy's default route and its retries lead to the one it was rendered for. Another set of pools that it
    knows changes neither."""
    short, long = ({"name": name, "capacity": capacity} for name, capacity in (("short", 8192), ("long", 131_072)))
    with serving(tmp_path, {}) as service:
        write(tmp_path, configuration({"pools": {"default": [short, long], "all-long": [long]}}))
        until(lambda: service.metric(OK) == 1)
        assert "largest pools" not in service.process.output()
        write(tmp_path, configuration({"pools": {"default": [{**long, "capacity": 1000}, short]}}))
        until(lambda: service.metric(OK) == 2)
        assert service.process.output().count("largest pools are now: short;") == 1


def test_another_routing_header_is_named(tmp_path: Path) -> None:
    """A proxy that routes by the old one would send everything by its default route."""
    with serving(tmp_path, {}) as service:
        write(tmp_path, configuration({"routing": {"header": "x-pool"}}))
        until(lambda: service.metric(OK) == 1)
        assert service.process.output().count("the routing header is now x-pool;") == 1


def test_a_config_map_is_followed(tmp_path: Path) -> None:
    """Its symlink is swapped. A bad one changes nothing, nor does one that is gone; the next good one is taken."""
    file = "dualpool.yaml"
    shadow = {"routing": {"shadow": True}}
    mount(tmp_path, "..1", {file: configuration({})})
    with serving(tmp_path, {}) as service:
        assert exchange(service.address) == "short"
        mount(tmp_path, "..2", {file: "routing: {shadow: maybe, colour: red}\npools: {}"})
        until(lambda: service.metric(REJECTED) == 1)
        for problem in ("routing.shadow: 'maybe'", "routing.colour: unknown key", "pools"):
            assert f"configuration not reloaded: {tmp_path / file}: {problem}" in service.process.output()
        assert exchange(service.address) == "short"
        (tmp_path / "..data").unlink()
        service.process.send_signal(signal.SIGHUP)
        until(lambda: service.metric(REJECTED) == 2)
        assert exchange(service.address) == "short"
        mount(tmp_path, "..3", {file: configuration(shadow)})
        until(lambda: service.metric(OK) == 1)
        assert exchange(service.address) == "long"
        assert service.samples() == 4
