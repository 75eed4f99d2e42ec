"""HTTP in: the route table, handlers, payloads, failures and middleware."""
