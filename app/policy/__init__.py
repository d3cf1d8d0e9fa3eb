"""The model as an author: prompts, sampling, judging, drafting. Nothing here talks to X."""
