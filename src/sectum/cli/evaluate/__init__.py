"""``sectum evaluate``."""
