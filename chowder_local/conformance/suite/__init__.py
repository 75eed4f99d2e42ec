"""The tests, which need only a base URL and an organization key."""
