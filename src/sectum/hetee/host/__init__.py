"""The untrusted host: accepts connections, and forwards and counts frames that it cannot read. Imports only `wire`."""
