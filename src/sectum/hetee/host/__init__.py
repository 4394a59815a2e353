"""The untrusted host: takes connections, forwards frames that it cannot read, counts them. Imports `wire` only."""
