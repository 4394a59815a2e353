"""The empirical study: synthetic networks whose memory and computation are varied one at a time."""
