"""HETEE's figures, measured: the confidential service against a plain baseline, in one run."""
