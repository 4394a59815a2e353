"""``sectum study``."""
