"""Public claims, judged, and the kit's own measurements."""
