"""Which samples come when: selection, order, and how far a loader has come in it (docs/plan.md)."""

from __future__ import annotations

from e2eio.plan.order import OrderOptions, SampleOrder, digest_of, integer_weights, sample_order

__all__ = ["OrderOptions", "SampleOrder", "digest_of", "integer_weights", "sample_order"]
