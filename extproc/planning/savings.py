"""The closed form: the share of instances pools save, from shares of requests and ratios of throughput alone."""

from collections.abc import Sequence


def savings(alpha: float, rho: float) -> float:
    """Share of instances that two pools save, `α (1 − 1/ρ)` (arXiv:2604.08075).

    α: share of requests whose budget fits the short pool. ρ: requests/s of a short-pool instance over those of a
    homogeneous one. Holds when a long request costs what an average one does in the homogeneous fleet. Raises
    `ValueError` as `general_savings` does.
    """
    return general_savings((alpha, 1 - alpha), (rho, 1.0))


def general_savings(shares: Sequence[float], ratios: Sequence[float]) -> float:
    """Share of instances that any number of pools save without that assumption, `1 − Σ αᵢ/ρᵢ`.

    `shares`, αᵢ: of requests that go to each pool. `ratios`, ρᵢ: requests/s of an instance of that pool, on what is
    sent there, over those of a homogeneous instance on all requests; below 1 for a long pool, because long requests
    cost more than the average. Equal to `savings` for two pools with a ratio of 1 for the long one. Raises
    `ValueError` for a share outside 0 to 1, or a ratio that is not above 0.
    """
    if not all(0 <= share <= 1 for share in shares) or min(ratios) <= 0:
        raise ValueError("shares (alpha) must be in [0, 1], ratios of throughput (rho) above 0")
    return 1 - sum(share / ratio for share, ratio in zip(shares, ratios, strict=True))
