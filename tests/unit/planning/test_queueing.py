"""Rules of `extproc.planning.queueing`, against textbook values."""

import math

import numpy as np
import pytest

from extproc.planning.queueing import conditional_wait, erlang_c, exceeds, residual, wait_quantile


def test_one_server_waits_with_its_utilisation() -> None:
    """In M/M/1 the chance to wait is the utilisation."""
    assert erlang_c(1, 0.7) == pytest.approx(0.7)


def test_two_servers() -> None:
    """C(2, 1) is 1/3."""
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("servers", "load"),
    [(3, 0.5), (2_000, 1_900), (2_000, 1_850.0), (20_000, 19_700.0), (150_000, 149_600.0), (150_001, 150_000.5)],
)
def test_however_many_servers_it_is_the_recursion(servers: int, load: float) -> None:
    """C is that of B(n) = a·B(n-1) / (n + a·B(n-1)), in small systems and in very large ones."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    assert erlang_c(servers, load) == pytest.approx(blocked / (1 - load / servers * (1 - blocked)), rel=1e-9)


def test_a_large_system_with_little_to_do_never_waits() -> None:
    """The chance to wait is 0 where it is smaller than any number."""
    assert erlang_c(60_000, 10.0) == 0


@pytest.mark.parametrize(("cv2", "wait"), [(1.0, 5.0), (0.0, 2.5), (3.0, 10.0)])
def test_one_server_is_pollaczek_khinchine(cv2: float, wait: float) -> None:
    """Those who wait do so for 1/(1−ρ) service times in M/M/1, half of it in M/D/1, (1 + c²)/2 of it in M/G/1."""
    assert conditional_wait(1, 0.8, 1.0, cv2) == pytest.approx(wait)


@pytest.mark.parametrize("load", [2.0, 2.5])
def test_saturation_waits_for_ever(load: float) -> None:
    """At or above saturation the wait is infinite."""
    assert math.isinf(wait_quantile(0.99, 2, load, 1.0, 1.0))


def test_mm1_tail() -> None:
    """M/M/1: P(W > t) = ρ·exp(−(1−ρ)t)."""
    t = wait_quantile(0.99, 1, 0.8, 1.0, 1.0)
    assert 0.8 * math.exp(-0.2 * t) == pytest.approx(0.01)


def test_few_who_wait_do_not_reach_the_quantile() -> None:
    """When fewer than 1 % wait, the P99 is 0."""
    assert wait_quantile(0.99, 100, 50.0, 1.0, 1.0) == 0


def test_residual_service() -> None:
    """Half of a fixed service is left on average; of long ones among short ones more than half of the mean."""
    assert residual(np.array([2.0]), np.array([1.0])) == 1
    assert residual(np.array([1.0, 10.0]), np.array([0.9, 0.1])) == pytest.approx(10.9 / 3.8)


def test_residual_over_idle_share_is_pollaczek_khinchine() -> None:
    """E[S²] / (2·E[S]·(1−ρ)) is the wait of those who wait in M/G/1 by the coefficient of variation as well."""
    service, shares = np.array([1.0, 4.0]), np.array([0.75, 0.25])
    mean = float(shares @ service)
    cv2 = float(shares @ service**2) / mean**2 - 1
    assert residual(service, shares) / 0.2 == pytest.approx(conditional_wait(1, 0.8, mean, cv2))


def test_tail_of_those_who_wait() -> None:
    """Nobody waits less than nothing, the share who wait at all is that at 0, and a share too small is none."""
    assert exceeds(np.array([-1.0, 0.0, 2.0]), 0.5, 2.0).tolist() == pytest.approx([1, 0.5, 0.5 / math.e])
    assert exceeds(np.array([-1.0, 0.0]), 0.01, 2.0, least=0.01).tolist() == [1, 0]
