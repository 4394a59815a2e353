"""The empirical study: made-up networks whose memory and computation are varied one at a time."""
