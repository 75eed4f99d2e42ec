"""The published contract as tests, for any server of the API, and the report of a run."""
