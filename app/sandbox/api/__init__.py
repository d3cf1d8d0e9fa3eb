"""The endpoints of X API v2 that the sandbox plays, one file per kind of resource."""
