"""Training: what client and worker share. The trusted base does not import it."""
