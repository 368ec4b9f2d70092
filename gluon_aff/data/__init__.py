"""Data sets, images, augmentation and loaders."""
