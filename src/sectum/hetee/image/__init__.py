"""Software images: all files that a role can run, copied to a private place, measured there, and run from there."""
