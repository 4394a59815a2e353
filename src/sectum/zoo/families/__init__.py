"""One module a family: the builder, the published networks, and what random relatives draw from."""
