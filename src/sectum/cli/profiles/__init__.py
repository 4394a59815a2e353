"""``sectum profiles``."""
