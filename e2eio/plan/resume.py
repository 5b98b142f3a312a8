"""How far a loader has come, and going on from there."""

from __future__ import annotations

from typing import Any

from e2eio import _core
from e2eio.errors import StateError
from e2eio.options import at_least, checked_flag
from e2eio.plan.order import SampleOrder, digest_of

__all__ = ["EpochProgress", "Resumable"]

_FORMAT = 1


class EpochProgress:
    """How far one iteration has come: counts what was delivered, not what is being made.

    Thread rule: as the iterator's.
    """

    def __init__(self, plan: _core.EpochPlan, epoch: int, begin: int) -> None:
        self._plan = plan
        self.epoch = epoch
        self._begin = begin
        self._n_batches = plan.n_batches(begin)
        self._n_delivered = 0
        self._ended = False
        #: Somebody iterates still.
        self.active = True

    def deliver(self, n_taken: int) -> None:
        """Note that the batch that was taken as the n-th one has been delivered."""
        self._n_delivered = n_taken

    def end(self) -> None:
        """Note that the consumer knows that the epoch is over."""
        self._ended = True

    @property
    def n_left(self) -> int:
        """Batches that are to be delivered yet."""
        return self._n_batches - self._n_delivered

    @property
    def place(self) -> tuple[int, int]:
        """Epoch and position from which to go on."""
        if self._ended:
            return self.epoch + 1, 0
        return self.epoch, self._plan.place_after(self._n_delivered, self._begin)


class Resumable:
    """A loader's side of its plan: which epoch comes next, and where in it to begin.

    Thread rule: one thread.
    """

    def __init__(
        self, order: SampleOrder, batch_size: int, rank: int, world_size: int, drop_last: bool
    ) -> None:
        self._order = order
        self._shares: dict[str, Any] = {
            "batch_size": at_least(1, "batch_size", batch_size),
            "rank": at_least(0, "rank", rank),
            "world_size": at_least(1, "world_size", world_size),
            "drop_last": checked_flag("drop_last", drop_last),
        }
        self._plan = _core.EpochPlan(order.core, **self._shares)
        self._next = (0, 0)  # epoch and position
        self._progress: EpochProgress | None = (
            None  # of the latest iterator, if nothing came after it
        )

    def _share_among(self, rank: int, world_size: int) -> None:
        """Take the share of another rank, before the first batch."""
        self._shares.update(rank=rank, world_size=world_size)
        self._plan = _core.EpochPlan(self._order.core, **self._shares)

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration this epoch (0 or more); without it epochs count up by themselves.

        Where :meth:`load_state_dict` has just set this very epoch, the iteration still goes on in its middle.
        """
        epoch = at_least(0, "epoch", epoch)
        if epoch != self._next[0]:
            self._next = (epoch, 0)
        # An iterator of another epoch, held or not, is not what comes next.
        now = self._progress
        if now is not None and not (now.active and now.epoch == epoch):
            self._progress = None

    @property
    def sampler(self) -> Resumable:
        """The loader itself: Lightning calls ``loader.sampler.set_epoch`` before each epoch."""
        return self

    @property
    def batch_sampler(self) -> None:
        """None: whoever finds a `sampler` asks for this as well."""

    def seek(self, epoch: int, batch: int) -> None:
        """Make the next iteration begin at that batch of that epoch; nothing before it is read."""
        place = self._plan.place_after(at_least(0, "batch", batch), 0)
        self._next = (at_least(0, "epoch", epoch), place)
        self._progress = None

    @property
    def plain_order(self) -> tuple[bool, int] | None:
        """Shuffle and key, if these two define the order; None: with select, weights or windows."""
        return self._order.plain

    @property
    def n_next(self) -> int:
        """Batches of the iteration that comes next."""
        return self._plan.n_batches(self._next[1])

    def begin(self, pipeline: _core.Pipeline) -> EpochProgress:
        """Start a pipeline on the iteration that comes next, and return its progress.

        Called for an iterator's first batch: frameworks also make iterators that they only look at, and call
        :meth:`set_epoch` after ``iter()``.
        """
        pipeline.start(*self._next)
        self._progress = EpochProgress(self._plan, *self._next)
        self._next = (self._next[0] + 1, 0)
        return self._progress

    def state_dict(self) -> dict[str, int | str]:
        """Return how far the most recent iterator has come: a few integers and short texts, fit for JSON.

        Counts batches that were delivered, not those made ahead. Equal on all ranks that have taken equally many. After
        the last batch it goes on with no more batches of this epoch; after StopIteration, with the next epoch.

        Examples
        --------
        >>> state = loader.state_dict()  # doctest: +SKIP
        >>> {key: state[key] for key in ("epoch", "position")}  # doctest: +SKIP
        {'epoch': 3, 'position': 8192}
        """
        epoch, position = self._next if self._progress is None else self._progress.place
        known = self._order.description
        return {
            "format": _FORMAT,
            "epoch": epoch,
            "position": position,
            **{name: _plain(value) for name, value in known.items()},
            "order": digest_of(known),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next iteration go on where a state was taken; on all ranks, which are compared before it.

        World size, batch size, number of threads, transforms and form may be others: what all ranks together deliver
        is the rest of the same global order. Random transforms are functions of the sample, so they are the same, too.

        Parameters
        ----------
        state : dict
            From :meth:`state_dict`.

        Raises
        ------
        StateError
            It is not a state, or one of another dataset, seed, shuffle, selection or weights; says which.
        """
        self._next = _checked(state, self._order.description)
        self._progress = None
        self._state_loaded()

    def _state_loaded(self) -> None:
        """Do what a loader has to once a state was loaded."""

    def _delivered(self) -> dict[str, str]:
        """Return what is made of the samples: of no concern to states, which may be loaded with another."""
        return {}

    def plan_description(self) -> dict[str, int | float | str | bool | None]:
        """Return everything that the ranks of a job have to agree on, as epoch and position are now.

        What is loaded, too (fields, channels, dtype, layout, form, transforms), which is no part of a state.
        """
        epoch, position = self._next if self._progress is None else self._progress.place
        return {
            **self._order.description,
            **{name: value for name, value in self._shares.items() if name != "rank"},
            "n_batches": self._plan.n_batches(position),
            "epoch": epoch,
            "position": position,
            **self._delivered(),
        }

    def plan_digest(self) -> str:
        """Return 16 hex digits of :meth:`plan_description`: equal digests, equal plans."""
        return digest_of(self.plan_description())


def _checked(state: object, known: dict[str, Any]) -> tuple[int, int]:
    if not isinstance(state, dict) or "position" not in state:
        raise StateError(
            f"no state of a Loader: found {state!r:.100}; expected what state_dict() made"
        )
    if state.get("format") != _FORMAT:
        raise StateError(
            f"state of format {state.get('format')!r}; this version of e2eio reads format {_FORMAT}"
        )
    expected = {name: _plain(value) for name, value in known.items()}
    differing = [
        f"{name} is {value} here and {state.get(name)} in the state"
        for name, value in expected.items()
        if state.get(name) != value
    ]
    if not differing and state.get("order") != digest_of(known):
        differing = [f"its digest is {digest_of(known)} here and {state.get('order')} in the state"]
    if differing:
        raise StateError(
            f"state of another order: {'; '.join(differing)}; make the Loader with the arguments that it "
            "was taken with"
        )
    epoch, position = state.get("epoch", -1), state["position"]
    if not (_is_count(epoch) and _is_count(position)) or position > known["length"]:
        raise StateError(
            f"damaged state: epoch {epoch!r}, position {position!r} of {known['length']} samples; expected "
            "integers of at least 0, the position at most the number of samples"
        )
    return epoch, position


def _plain(value: object) -> int | str:
    return value if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
