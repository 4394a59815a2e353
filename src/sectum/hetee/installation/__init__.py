"""Prepares what a rack runs: a machine's endorsement, the files of roles, their private copies. Nobody trusts it."""
