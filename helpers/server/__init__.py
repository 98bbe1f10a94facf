"""A server to talk to: the client, and whether the server can be used."""
