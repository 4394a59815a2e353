"""``sectum zoo``."""
