"""How to run a network well: advice."""
