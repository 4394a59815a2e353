"""Runs ordinary jobs on accelerators of the insecure world. Nobody trusts this program; it holds no key."""
