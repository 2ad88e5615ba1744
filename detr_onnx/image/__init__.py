"""Reading images, preprocessing them for the network, and drawing detections on them."""
