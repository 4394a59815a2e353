"""Shared by several commands: text, numbers, pictures and output files."""
