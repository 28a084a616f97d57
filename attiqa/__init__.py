"""Image quality by attributes: ATTIQA (arXiv 2406.01020), its training stack and its rewards."""

from attiqa.errors import InputError
from attiqa.images import read_image, to_float
from attiqa.model import QualityModel, bundled_models, load

__all__ = ["InputError", "QualityModel", "bundled_models", "load", "read_image", "to_float"]
