"""Image files and arrays -> the pixels and mask that the network sees; drawing detections."""
