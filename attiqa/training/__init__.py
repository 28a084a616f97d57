"""Training: pretraining on pseudo-labels, fine-tuning to MOS, and the recipe of the bundled model."""
