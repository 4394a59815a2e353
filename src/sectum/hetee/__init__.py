"""The confidential accelerator service: roles, and what they speak. The specification is ``docs/spec``."""
