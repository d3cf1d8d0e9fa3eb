"""One page for whoever is responsible: what the bot says, why, what it earns and costs, and how to stop it."""
