"""For tests against agents: a pytest plugin, and what it hands to tests."""
