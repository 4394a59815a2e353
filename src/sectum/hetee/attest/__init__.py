"""Evidence: made, verified (is it genuine?) and validated (do I accept it?). ``docs/spec/handshake.md`` in Python."""
