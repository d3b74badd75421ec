"""`python -m tests.soak [MINUTES]`: a real Envoy and the service under mixed load for long; exit 1 when it leaks.

The state file is written, Redis is shared with where there is a redis-server, and the configuration is reloaded now
and then, as in real life. Samples go to a CSV file as they are taken.
"""

import argparse
import asyncio
import csv
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from extproc.demo.stack import Stack
from tests.process.redis_server import RedisServer
from tests.soak.load import Load
from tests.soak.record import Sample, compared, sample, verdict

SAMPLES = 180
RELOADS_EVERY = 10
"""Samples."""


async def soak(stack: Stack, seconds: float, rate: float, out: Path) -> list[Sample]:
    """Load `stack` for `seconds` with `rate` requests a second, and write samples to `out`."""
    load = Load(stack.envoy.url, rate)
    task = asyncio.create_task(load.run())
    started = time.monotonic()
    samples: list[Sample] = []
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, Sample.__struct_fields__)
        writer.writeheader()
        for turn in range(1, SAMPLES + 1):
            await asyncio.wait({task}, timeout=started + turn * seconds / SAMPLES - time.monotonic())
            if task.done():
                task.result()
            state = await asyncio.to_thread(stack.service.state)
            samples.append(sample(time.monotonic() - started, stack.service.process.pid, state, load.take()))
            writer.writerow(msgspec.structs.asdict(samples[-1]))
            file.flush()
            if turn % RELOADS_EVERY == 0:
                stack.service.process.send_signal(signal.SIGHUP)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for error in load.errors[:10]:
        print(error, file=sys.stderr)
    return samples


def main() -> int:
    """Run; 0 when memory was flat and no request failed."""
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("minutes", nargs="?", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second (default: %(default)s)")
    parser.add_argument("--file", type=Path, default=Path("soak.csv"), help="samples (default: %(default)s)")
    args = parser.parse_args()
    with TemporaryDirectory(prefix="dualpool-soak-") as name, ExitStack() as running:
        directory = Path(name)
        state: dict[str, object] = {"file": str(directory / "state.json")}
        if shutil.which("redis-server"):
            state["redis"] = {"url": running.enter_context(RedisServer(directory)).url}
        stack = running.enter_context(Stack(directory, {"state": state}))
        shared = " and Redis" if "redis" in state else ", no redis-server"
        print(
            f"{args.minutes:g} minutes at {args.rate:g} requests a second, state file{shared}; samples: {args.file}"
        )
        samples = asyncio.run(soak(stack, 60 * args.minutes, args.rate, args.file))
    print(f"{sum(s.requests for s in samples)} answered, {sum(s.left for s in samples)} left by their client")
    print(f"{'mean of a sample':18}{'middle third':>14}{'last third':>14}")
    for figure, middle, last in compared(samples):
        print(f"{figure:18}{middle:14.2f}{last:14.2f}")
    problems = verdict(samples)
    for problem in problems:
        print(problem)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
