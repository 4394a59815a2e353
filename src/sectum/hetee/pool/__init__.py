"""Racks that are started and watched together: one on this machine, or one on each machine of a Ray cluster."""
