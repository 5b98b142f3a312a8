"""Batches: the memory that is lent, what is made of it, and one pass over them."""

from __future__ import annotations

__all__: list[str] = []
