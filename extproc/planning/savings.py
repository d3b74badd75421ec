"""The closed form: the share of instances two pools save, from the short share and the throughput ratio alone."""


def savings(alpha: float, rho: float) -> float:
    """Share of instances saved, `α (1 − 1/ρ)` (arXiv:2604.08075).

    α: share of requests whose budget fits the short pool. ρ: requests/s of a short-pool instance over those of a
    homogeneous one. Holds when a long request costs what an average one does in the homogeneous fleet. Raises
    `ValueError` as `general_savings` does.
    """
    return general_savings(alpha, rho, 1.0)


def general_savings(alpha: float, rho: float, sigma: float) -> float:
    """Share of instances saved without that assumption, `1 − (α/ρ + (1 − α)/σ)`.

    σ: requests/s of a long-pool instance on long requests alone, over those of a homogeneous instance on all;
    below 1 because long requests cost more than the average. Equal to `savings` at σ = 1. Raises `ValueError` for
    an α that is no share, or a ρ or σ that is not above 0.
    """
    if not 0 <= alpha <= 1 or rho <= 0 or sigma <= 0:
        raise ValueError("alpha must be in [0, 1], rho and sigma above 0")
    return 1 - alpha / rho - (1 - alpha) / sigma
