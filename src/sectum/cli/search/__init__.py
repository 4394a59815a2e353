"""``sectum search``."""
