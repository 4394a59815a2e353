"""``sectum plan``."""
