"""Providers' HTTP formats: one class a provider parses, renders, meters and chooses tools."""
