"""Public claims with verdicts, published scores, and the kit's own measurements."""
