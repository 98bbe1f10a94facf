"""The pocket model's training recipe and its evaluation."""
