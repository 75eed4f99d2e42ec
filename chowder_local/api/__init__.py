"""The HTTP API: its route table, its handlers and schemas, and its OpenAPI document."""
