"""What is looked at to find out whether agents can live here, and how each trouble is cured."""
