"""The built-in offline model: deterministic answers in each provider's own format."""
