"""The dashboard: pages for a browser that is signed in with an organization's key."""
