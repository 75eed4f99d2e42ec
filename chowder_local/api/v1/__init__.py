"""Handlers of the contract, one module a subject."""
