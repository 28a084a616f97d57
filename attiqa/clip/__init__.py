"""CLIP as a labeller: encoders, the embedding cache, antonym scores, prompt selection."""
