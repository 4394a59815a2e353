"""Training jobs in a worker: what was received and checked. Nothing here loads PyTorch."""
