"""``sectum predict``."""
