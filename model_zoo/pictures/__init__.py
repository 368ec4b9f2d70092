"""Figures: Grad-CAM, the comparison, the page."""
