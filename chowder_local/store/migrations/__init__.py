"""Alembic migrations between released schemas."""
