"""Handshake, key schedule and record protection: ``docs/spec/handshake.md`` and ``key-schedule.md`` in Python."""
