"""One module for each migration; released ones never change."""
