"""Every fault that is tried under load, by name."""

import signal
from collections.abc import Callable
from functools import partial

from tests.faults import others, services
from tests.faults.ground import Ground, Outcome

SCENARIOS: dict[str, Callable[[Ground], Outcome]] = {
    "service killed and restarted, 10 times": services.killed_ten_times,
    "service stopped for 5 s": services.stopped,
    "rolling restart, SIGTERM, two replicas": services.rolling_restart,
    "one of two workers killed": partial(services.worker_signalled, number=signal.SIGKILL),
    "one of two workers stopped": partial(services.worker_signalled, number=signal.SIGSTOP),
    "one of two workers hangs for good": partial(services.worker_signalled, number=signal.SIGSTOP, for_good=True),
    "one of two workers asked to end": partial(services.worker_signalled, number=signal.SIGTERM),
    "short pool killed, requests waiting": partial(others.pool_signalled, number=signal.SIGKILL),
    "short pool killed, answers under way": others.pool_killed_in_the_middle,
    "short pool stopped for 2 s": partial(others.pool_signalled, number=signal.SIGSTOP),
    "short pool asked to end": partial(others.pool_signalled, number=signal.SIGTERM),
    "burst of 50 misroutes, wrong prior": others.burst_of_misroutes,
    "Redis killed, emptied, stopped, slow by 2 s": others.redis_of_no_use,
    "40 users, 8 calls": services.overloaded,
    "configuration reloaded 100 times, a third broken": services.reloaded_a_hundred_times,
}

NEEDS_REDIS = frozenset({"Redis killed, emptied, stopped, slow by 2 s"})
