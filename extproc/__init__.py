"""Dualpool: token-budget routing for vLLM, as an Envoy external processor."""

__version__ = "0.1.0"
