"""HTTP out, streaming: what forwarding needs."""
