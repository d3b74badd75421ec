"""Tokens to a pool: threshold, shadow mode, gradual roll-out, spillover."""
