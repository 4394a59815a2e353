"""Where a model runs: natively, in the software enclave, in Gramine."""
