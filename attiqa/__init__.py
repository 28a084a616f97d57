"""Image quality by attributes: ATTIQA (arXiv 2406.01020), its training stack and its rewards."""
