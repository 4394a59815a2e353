"""Software images: all files that a role can run, copied to a place of their own, measured there, and run from there."""
