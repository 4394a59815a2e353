"""``sectum report``."""
