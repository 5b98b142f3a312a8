"""Files of samples one after the other: TFRecord and WebDataset."""

from __future__ import annotations

__all__: list[str] = []
