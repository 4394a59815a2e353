"""``sectum dataset``."""
