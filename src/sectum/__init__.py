"""What a neural network costs inside a trusted execution environment: predicted, measured, explained."""

__version__ = "0.1.0"
