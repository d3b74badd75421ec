"""What was learned, kept over restarts and shared between processes."""
