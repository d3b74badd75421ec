"""Keeps what was learned over restarts, and shares it between processes."""
