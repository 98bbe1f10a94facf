"""The connection to a server: the client, and whether the server can be used."""
