"""The talk's trainings: which runs there are, how one is done and kept, and what they add up to."""

from __future__ import annotations
