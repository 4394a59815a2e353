"""Where a model runs, and what that costs: runners and profiles. This package knows no graphs."""
