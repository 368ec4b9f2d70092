"""The host networks, one file each."""
