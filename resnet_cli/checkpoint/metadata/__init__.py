"""A network and its contents -> class names and preprocessing, each with its source in words."""
