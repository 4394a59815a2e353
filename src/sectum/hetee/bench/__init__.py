"""Measures HETEE's figures 7a and 8a: the confidential service against a plain baseline, in one run."""
