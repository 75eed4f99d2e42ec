"""The checks of `doctor`, on this machine and in a running server."""
