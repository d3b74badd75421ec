"""What is computed at every scrape. What is counted is asserted where it happens."""

from prometheus_client import CollectorRegistry

from extproc.metrics import export_learned


def test_learned_figures_are_exported() -> None:
    """Ratios by category, errors by model, and the observations behind each."""
    key = {"model": "m", "category": "latin", "basis": "raw"}
    ratio = {**key, "bytes_per_token": 4.2, "deviation": 0.3, "samples": 7}
    learned = {"ratios": [ratio], "linear": [{"model": "m", "error": 0.05, "samples": 30}]}
    registry = CollectorRegistry()
    export_learned(registry, lambda: learned)
    assert registry.get_sample_value("dualpool_bytes_per_token", key) == 4.2
    assert registry.get_sample_value("dualpool_ratio_samples", key) == 7
    assert registry.get_sample_value("dualpool_linear_error_ratio", {"model": "m"}) == 0.05
    assert registry.get_sample_value("dualpool_linear_samples", {"model": "m"}) == 30
