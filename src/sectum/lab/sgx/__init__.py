"""The SGX profile, fitted to published measurements."""
