"""Evidence: making it, verifying it (is it genuine?), validating it (do I accept it?); see docs/spec/handshake.md."""
