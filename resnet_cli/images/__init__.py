"""Bytes of an image -> upright 8-bit pixels, or an ``ImageError`` that says why there are none."""
