"""Frames and messages, their limits, their parsers: ``docs/spec/wire-format.md`` in Python. No key, no socket."""
