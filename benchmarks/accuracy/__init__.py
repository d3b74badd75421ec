"""How far estimates are off, and what that does to routing."""
