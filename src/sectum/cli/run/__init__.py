"""``sectum run``."""
