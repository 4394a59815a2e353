"""Handshake, key schedule and record protection; implements ``docs/spec/handshake.md`` and ``key-schedule.md``."""
