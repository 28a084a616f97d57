"""Rated image sets as their owners distribute them; `load_dataset` reads one by name."""
