"""What `doctor` examines, on this machine and in a running server."""
