"""``sectum hetee``."""
