"""Running a network stage by stage, its weights sealed in untrusted memory and opened just before use."""
