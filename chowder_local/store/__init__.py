"""The SQLite database and the queries on it."""
