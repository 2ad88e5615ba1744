"""Wire formats of the HTTP APIs that the server speaks; no sockets."""
