"""The recipe of a study: its file, its task and models, and both halves of every strategy."""
