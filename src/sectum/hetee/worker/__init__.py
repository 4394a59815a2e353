"""The enclave: one process for one tenant, which opens batches, decodes, infers and seals. ``docs/spec/roles.md``."""
