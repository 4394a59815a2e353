"""Verifies and judges evidence and signed records, for the owner of the data. No controller or worker imports it."""
