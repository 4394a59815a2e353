"""Suites that an implementation of a seam has to pass, and what they need. Needs pytest."""
