"""``sectum measure``."""
