"""Before deployment: what a split would save, and where to cut."""
