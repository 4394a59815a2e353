"""Training with PyTorch. Importing any module of this package but this one loads it."""
