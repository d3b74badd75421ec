"""Time to first token of a pool: a wait for a slot, a wait for the prefill of others, a request's own prefill."""

import math

import numpy as np

from extproc.planning import queueing
from extproc.planning.engine import Engine
from extproc.planning.throughput import Throughput, iterations, prefill_chunks
from extproc.planning.workload import Floats, Workload

LATE = 0.01
"""Share of requests that may miss a P99 objective."""

MOST_BUSY = 0.999
"""An instance is not taken to be busier: at 1 its queue would have no end."""

HALVINGS = 30
"""Of an interval in which a quantile is looked for: to one part in 10⁹ of it."""


class PoolModel:
    """Latency of a pool as a function of its instances.

    Slots are those of the whole pool: M/G/c. Prefill is the instance's own: M/G/1, the service being a prompt's
    compute and its part of the weights read in the iterations it fills. Iterations are slowed by the load.
    """

    def __init__(self, part: Workload, engine: Engine, throughput: Throughput, rate: float) -> None:
        self._engine, self._throughput, self._rate = engine, throughput, rate
        lengths, kinds = np.unique(part.inputs, return_inverse=True)
        inputs = lengths.astype(float)
        self._shares = np.bincount(kinds, part.weights) / part.weights.sum()
        self._chunks = prefill_chunks(inputs, engine)
        self._own = engine.token_time * inputs + engine.pair_time * inputs**2 / 2
        filled = inputs / engine.batched_tokens  # iterations, where prompts share them
        self._filled = float(self._shares @ filled)
        self._residual = queueing.residual(self._own + filled * engine.weights_time, self._shares)
        self._alone = engine.weights_time * part.mean(iterations(part, engine)) + throughput.demand
        # The P99 of lengths is that of prefill, which grows with the prompt. Sums are rounded.
        self._slowest = int(np.searchsorted(np.cumsum(self._shares), (1 - LATE) * (1 - 1e-12)))

    def utilisation(self, instances: int) -> float:
        """Share of the throughput in use."""
        return self._rate / (instances * self._throughput.rate)

    def prefill(self, instances: float) -> float:
        """P99 over requests of the time from their first chunk to their first token, s."""
        return float(self._prefills(instances)[self._slowest])

    def _prefills(self, instances: float) -> Floats:
        """Seconds by length of prompt: its chunks share iterations of W / (1 − λ·D) with all the instance does, and
        it starts half an iteration late on average."""
        return np.asarray((self._chunks + 0.5) * self._iteration(instances) + self._own, np.float64)

    def _busy(self, instances: float) -> float:
        """Share of an instance's time that goes into requests, λ·D, and not into reading weights."""
        return min(self._rate / instances * self._throughput.demand, MOST_BUSY)

    def _iteration(self, instances: float) -> float:
        """Mean iteration, s."""
        return self._engine.weights_time / (1 - self._busy(instances))

    def _met(self, instances: float) -> float:
        """Chance that a request finds its instance at the prefill of others.

        Of one instance it is the share of *time*, λ·(D + W·f), f being the iterations that a mean prompt fills.
        In a very large pool, where a request goes to the instance with the fewest, it is the share of *iterations*
        with prefill in them, λ·f·W / (1 − λ·D): an instance at a long prompt finishes no request while the others
        do, and is sent none. In between it is taken to fall with the square root of the instances, the law by which
        numbers of requests spread. That is no theorem: of a fall with the instances, with their root and none, it
        comes nearest to the simulator. Nor is it more than Erlang's C with instances for servers, the chance that
        none of them is empty.
        """
        weights = self._filled * self._engine.weights_time  # read during the prefill of a request, s
        time = min(self._rate / instances * (self._throughput.demand + weights), MOST_BUSY)
        balanced = min(self._rate / instances * self._iteration(instances) * self._filled, time)
        met = balanced + (time - balanced) / math.sqrt(instances)
        return min(met, queueing.erlang_c(int(instances), self._rate * self._alone)) if met > LATE else met

    def _behind(self, instances: float) -> tuple[float, float]:
        """Chance to wait for the prefill of others, and the mean wait of those who do (s); see `queueing`."""
        met = self._met(instances)
        return met, self._residual / (1 - met)

    def late(self, instances: float, ttft: float) -> float:
        """Share of requests over `ttft`, each with the P99 of the wait for a slot on top of the rest."""
        return self._over(instances, ttft - self.slot_wait(instances))

    def _over(self, instances: float, seconds: float) -> float:
        """Share of requests whose wait for prefill and own prefill are over `seconds` together."""
        left = seconds - self._prefills(instances)
        return float(self._shares @ queueing.exceeds(left, *self._behind(instances), least=LATE))

    def slot_wait(self, instances: float) -> float:
        """P99 of the wait for a free slot, s."""
        if math.isinf(instances):
            return 0.0
        slots = math.floor(instances * self._throughput.slots)
        service = self._throughput.slots / self._throughput.rate
        return queueing.wait_quantile(1 - LATE, slots, self._rate * service, service, self._throughput.service_cv2)

    def _prefill_wait(self, instances: float) -> float:
        """P99 of the wait for the prefill of others, s."""
        met, mean = self._behind(instances)
        return max(0.0, math.log(met / LATE) * mean) if met > 0 else 0.0

    def wait(self, instances: float) -> float:
        """P99 of the wait for a slot plus P99 of the wait for the prefill of others, s."""
        return self.slot_wait(instances) + self._prefill_wait(instances)

    def ttft(self, instances: float) -> float:
        """P99 time to first token, s: P99 of the wait for a slot plus P99 of all that follows."""
        low = self.prefill(instances)
        high = float(self._prefills(instances)[-1]) + self._prefill_wait(instances)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._over(instances, middle) > LATE else (low, middle)
        return self.slot_wait(instances) + high
