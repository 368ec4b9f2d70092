"""Released weights: which there are, their download and their loading."""
