"""The API as tools of the Model Context Protocol, for editors and agents that develop."""
