"""Lending a model key to a sandbox without giving it away."""
