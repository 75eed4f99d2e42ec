"""The providers' HTTP formats, one class a provider: parsing, rendering, usage, tool choice."""
