"""Feeds of a card, and what is timed there with CUDA events; for gpu_feed.py."""
