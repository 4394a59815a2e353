"""The worker: a confined process that opens one tenant's batches, runs the model and seals results; see roles.md."""
