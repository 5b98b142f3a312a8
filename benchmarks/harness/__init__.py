"""What every benchmark needs: contenders in processes of their own, interleaved rounds, reports."""

from __future__ import annotations
