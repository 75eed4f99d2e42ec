"""HTTP plumbing that the API and the dashboard share: sockets, bodies, streams, errors."""
