"""Bytes to facts: request bodies, usage reports, server-sent events. No network, no configuration."""
