"""The pytest plugin and the testcontainers class, for tests against agents."""
