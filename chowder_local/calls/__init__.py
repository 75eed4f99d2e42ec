"""The API's calls as methods, by subject; `client.Client` has them all."""
