"""``sectum advise``."""
