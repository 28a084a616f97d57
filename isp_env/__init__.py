"""From a raw file to display sRGB: batched operators and Gymnasium environments around them."""
