"""The epochs of a loader with the channels last, whatever its own layout."""

from __future__ import annotations

import weakref

from e2eio import _core
from e2eio.errors import ConfigError
from e2eio.loader import BatchIterator, Loader
from e2eio.plan.resume import EpochProgress

__all__ = ["ChannelsLast", "channels_last"]


def channels_last(loader: Loader) -> Loader:
    """Return the loader itself if its layout is NHWC, else one that decodes its epochs into that layout."""
    if loader.options["form"] != "dense":
        raise ConfigError(
            f"form is {loader.options['form']!r}; expected 'dense': lists of pixels have no layout"
        )
    return loader if loader.options["layout"] == "NHWC" else ChannelsLast(loader)


class ChannelsLast(Loader):
    """The epochs of another loader, decoded into [n, H, W, C] by a pipeline of its own.

    Both count the same epochs: whichever is iterated over takes the next one.

    Thread rule: that of Loader. Closed with the other loader, which :meth:`Loader.stats` then speaks of this pipeline.
    """

    def __init__(self, loader: Loader) -> None:
        self.__dict__.update(loader.__dict__)
        self._of = loader
        self._options = {**self._options, "layout": "NHWC"}
        n, channels, height, width = loader.last_batch_shape
        self.last_batch_shape = (n, height, width, channels)
        self._idle: list[_core.Pipeline] = []
        self._others = weakref.WeakSet()
        self._iterators = weakref.WeakSet()
        loader._others.add(self)

    def host_batches(self) -> BatchIterator:
        """Return the next epoch of both."""
        self._of.check_usable()
        self._of._compare_if_due()
        self._ranks, self._plan = self._of._ranks, self._of._plan
        self._settled, self._due = True, None
        iterator = super().host_batches()
        self._of._latest = self._latest
        return iterator

    @property
    def n_next(self) -> int:
        """Batches of the iteration that comes next."""
        return self._of.n_next

    def begin(self, pipeline: _core.Pipeline) -> EpochProgress:
        """Start a pipeline on the other loader's next iteration."""
        return self._of.begin(pipeline)
