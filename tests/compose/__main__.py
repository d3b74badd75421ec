"""`make compose-test`: docker-compose.yaml brought up, used, hurt, and taken down again."""

import json
import subprocess
import sys
import urllib.request
from typing import Any

from tests.compose.engine import ROOT, engine
from tests.envoy.load import Load
from tests.envoy.stack import until

ENVOY = "http://127.0.0.1:8080"
ADMIN = "http://127.0.0.1:9902"
SKIPPED = "SKIPPED: make compose-test: no Docker engine with compose v2 here, nor a script that sets one up"


def main() -> int:
    """Return 0 when all went as it should, and when there is nothing to run it on."""
    with engine() as environment:
        if environment is None:
            print(SKIPPED)
            return 0
        stack = Stack(environment)
        try:
            stack.compose("up", "--build", "--detach", "--wait")
            use(stack)
            restart(stack)
        except BaseException:
            stack.compose("logs", "--tail", "20", check=False)
            raise
        finally:
            stack.compose("--profile", "load", "down", "--volumes", "--timeout", "5")
    print("compose-test: good")
    return 0


class Stack:
    """The compose project. `environment`: for the docker command."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    def compose(self, *arguments: str, check: bool = True) -> None:
        """Run `docker compose` with `arguments`."""
        print("+ docker compose", *arguments, flush=True)
        subprocess.run(["docker", "compose", *arguments], check=check, cwd=ROOT, env=self._environment)


def use(stack: Stack) -> None:
    """Short and long requests reach their pools, and the weights move."""
    expect(ask("How are you?") == "short", "a short request is answered by the short pool")
    expect(ask("word " * 20_000) == "long", "a long request is answered by the long pool")
    stack.compose("run", "--rm", "load")
    state = fetch(f"{ADMIN}/state")
    pools = {entry["pool"] for entry in state["requests"] if entry["requests"] > 10}
    samples = max(entry["samples"] for entry in state["learned"]["linear"])
    expect({"short", "long"} <= pools, f"both pools were used: {state['requests']}")
    expect(samples > 100, f"the weights moved: {samples} answers were learned from")


def restart(stack: Stack) -> None:
    """Killed and started again under load: no request fails, meanwhile all go long, then they are split again."""
    with Load(ENVOY) as load:
        until(load.more(20), 60)
        stack.compose("kill", "dualpool")
        until(load.more(50), 60)
        expect(ask("How are you?") == "long", "without the service the long pool answers")
        stack.compose("up", "--detach", "--wait", "dualpool")
        until(lambda: ask("How are you?") == "short", 30)
        until(load.more(20), 60)
    expect(not load.failed(), f"of {len(load.sent)} requests meanwhile none failed {load.failed()[:3] or ''}")
    print("after the restart requests are split again")


def ask(text: str) -> str:
    """Send a chat request through Envoy; return the name of the pool that answered. Anything but a 200 raises."""
    body = {"model": "stand-in", "messages": [{"role": "user", "content": text}], "max_tokens": 16}
    request = urllib.request.Request(
        f"{ENVOY}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.headers["x-served-by"])


def fetch(url: str) -> Any:
    """Return the JSON at `url`."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def expect(good: bool, what: str) -> None:
    """Say what is so; raise when it is not."""
    if not good:
        raise SystemExit(f"compose-test: not so: {what}")
    print(f"compose-test: {what}")


if __name__ == "__main__":
    sys.exit(main())
