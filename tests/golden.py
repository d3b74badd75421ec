"""The files under envoy/ and the commands that render them. `python -m tests.golden` writes them."""

from pathlib import Path

from extproc.cli import main

ROOT = Path(__file__).parents[1]
STANDALONE = "--config envoy/standalone/dualpool.yaml --output envoy/standalone"
IN_PROXY = "--config envoy/standalone/dualpool-in-proxy.yaml --output envoy/standalone"
COMPOSE = "--config envoy/compose/dualpool.yaml --output envoy/compose"
KUBERNETES = "--config envoy/gateway-api/dualpool.yaml --namespace llm"

COMMANDS = (
    f"render envoy {STANDALONE}",
    f"render envoy {STANDALONE} --envoy 1.36 --name envoy-1.36.yaml",
    f"render envoy {STANDALONE} --envoy 1.38 --usage access-log --name envoy-access-log.yaml",
    f"render envoy {STANDALONE} --envoy 1.38 --usage access-log --exchange bodyless --name envoy-bodyless.yaml",
    f"render envoy {IN_PROXY} --envoy 1.38 --usage access-log --exchange in-proxy --name envoy-in-proxy.yaml",
    f"render in-proxy-filter {IN_PROXY}",
    f"render envoy-filter {STANDALONE}",
    f"render envoy {COMPOSE} --envoy 1.38 --service dualpool:50051 --admin 0.0.0.0:9901",
    f"render envoy-gateway {KUBERNETES} --output envoy/gateway-api/envoy-gateway",
    f"render envoy-gateway {KUBERNETES} --output envoy/gateway-api/inference-pool --inference-pools",
    f"render istio {KUBERNETES} --output envoy/istio",
)
"""As they would be typed in the repository's root, after `dualpool`."""


def write(root: Path) -> None:
    """Run every command, with its files below `root` in place of the repository."""
    for command in COMMANDS:
        arguments = command.split()
        arguments[arguments.index("--config") + 1] = str(ROOT / arguments[arguments.index("--config") + 1])
        arguments[arguments.index("--output") + 1] = str(root / arguments[arguments.index("--output") + 1])
        if main(arguments) != 0:
            raise SystemExit(f"dualpool {command}: failed")


if __name__ == "__main__":
    write(ROOT)
