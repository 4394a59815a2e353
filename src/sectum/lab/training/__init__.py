"""Training of the shipped operator models."""
