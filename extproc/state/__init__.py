"""What has been learned, kept and shared."""
