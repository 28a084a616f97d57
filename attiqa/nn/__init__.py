"""Networks: torchvision backbones cut to their features, and the attribute network on top of them."""
