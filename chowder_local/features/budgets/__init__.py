"""Budgets: what model calls may take of money, tokens and calls in a period."""
