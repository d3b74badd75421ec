"""Stand-in vLLM pools and the one-command demo."""
