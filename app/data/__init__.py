"""The jump start: a data set of the community's posts, and the first training on it. See `docs/jump-start.md`."""
