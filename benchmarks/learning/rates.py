"""Tables of rates: I/O and training, ranks, inference; beside the talk's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from harness.talk import EPOCH_JETS, PUBLISHED
from learning.scaling_model import ScalingModel
from learning.tables import Found, Table

__all__ = ["MODELLED_RANKS", "TABLES", "scaling_model", "waiting"]

MODELLED_RANKS = (4, 8)
_RANKS = (
    "Ranks under mpirun (gloo), each with batches of its own. Agreeing: the sum over the ranks of as many float32 as "
    "the network has weights. Epochs of 2.56 M jets, extrapolated. Talk: 19 min on a V100, 11.8 on two, up to 5 times "
    "as fast on eight."
)


def _median(run: Found, action: str) -> float:
    return float(median(run["seconds_per_step"][action]))


def _spread(run: Found, action: str, per_step: float) -> str:
    """Return rates: median, least and most of the rounds."""
    rates = sorted(per_step / seconds for seconds in run["seconds_per_step"][action])
    return f"{median(rates):,.0f} ({rates[0]:,.0f} - {rates[-1]:,.0f})"


def waiting(run: Found, action: str) -> float:
    """Return the share of a loop's time in which it waits for batches, over all rounds."""
    waited, taken = run["stall_per_step"][action], run["seconds_per_step"][action]
    return float(sum(waited) / sum(taken))


def io(runs: Sequence[Found]) -> Table:
    header = (
        "processor", "resolution", "batch size", "I/O, 1 batch", "training, 1 batch", "jets/s",
        "epoch of 2.56 M jets", "waiting for batches", "I/O, if nothing overlapped",
    )  # fmt: skip
    rows = [_io_row(run) for run in runs]
    for node in PUBLISHED:
        size = node.batch_size
        for resolution, minutes in node.epoch_min.items():
            io_s = node.read_s[resolution]
            train_s = minutes * 60 / (EPOCH_JETS / size)
            rows.append((
                f"{node.name} (talk)", resolution, str(size), f"{io_s * 1e3:.3g} ms",
                f"{train_s * 1e3:.4g} ms", f"{size / train_s:,.0f}", f"{minutes:,.0f} min", "",
                f"{io_s / train_s:.0%} of the epoch",
            ))  # fmt: skip
    precisions = ", ".join(sorted({str(run["precision"]) for run in runs}))
    note = (
        "I/O: a consumer that does nothing, as the talk measures it. Waiting: the share of training in which the loop "
        "waits for its next batch, while batches are made ahead; if nothing overlapped: I/O over the sum of I/O and a step "
        "on a batch that is there. Epochs are extrapolated from seconds of training, but for the talk's, whose I/O "
        f"overlaps as tf.data has it. Medians of interleaved rounds; {precisions}."
    )
    return Table(header, rows, [note])


def _io_row(run: Found) -> tuple[str, ...]:
    io_s, train_s, step_s = (_median(run, name) for name in ("io", "train", "resident"))
    size = int(run["batch_size"])
    return (
        f"{run['device']}, {run['threads']} thread(s)", f"x{run['stored']}", str(size),
        f"{io_s * 1e3:.3g} ms", f"{train_s * 1e3:.4g} ms", _spread(run, "train", size),
        f"{EPOCH_JETS / size * train_s / 60:,.0f} min (extrapolated)",
        f"{waiting(run, 'train'):.2%}", f"{io_s / (io_s + step_s):.2%}",
    )  # fmt: skip


def _where(run: Found) -> str:
    return f"{run['ranks']} of {run['threads']} thread(s)"


def scaling_model(runs: Sequence[Found]) -> ScalingModel | None:
    """Return the model, if one rank and two were measured with a thread each."""
    alone, pair = (
        next((run for run in runs if (run["ranks"], run["threads"]) == (n, 1)), None)
        for n in (1, 2)
    )
    if alone is None or pair is None:
        return None
    return ScalingModel(
        batch_size=int(pair["batch_size"]),
        one_s=_median(alone, "train"),
        two_s=_median(pair, "train"),
        agree_s=_median(pair, "agree"),
    )


def scaling(runs: Sequence[Found]) -> Table:
    model = scaling_model(runs)
    rows: list[tuple[str, ...]] = []
    for run in _sorted(runs):
        n = int(run["batch_size"]) * int(run["ranks"])
        agree = f"{_median(run, 'agree') * 1e3:.3g} ms" if run["ranks"] > 1 else ""
        minutes = f"{EPOCH_JETS / n * _median(run, 'train') / 60:,.0f} min"
        times = _times(run, model) if model else ""
        rows.append((_where(run), _spread(run, "train", n), times, agree, minutes, "measured"))
    notes = [_RANKS]
    if model is not None:
        rows += [_modelled(n, model) for n in MODELLED_RANKS]
        notes.append(
            f"Modelled, for {max(MODELLED_RANKS)} cores like these: a step of one rank ({model.one_s * 1e3:.4g} ms), "
            f"(n - 1) times what two ranks take to agree ({model.agree_s * 1e3:.3g} ms), and what else two ranks took longer "
            f"({model.rest_s * 1e3:.3g} ms). Nothing is known of memory that more ranks would share, or of networks."
        )
    header = ("ranks", "jets/s (least - most)", "speed-up", "agreeing", "epoch", "")
    return Table(header, rows, notes)


def _modelled(n: int, model: ScalingModel) -> tuple[str, ...]:
    rate = model.jets_per_s(n)
    return (
        f"{n} of 1 thread", f"{rate:,.0f}", f"{model.speed_up(n):.2f}",
        f"{(n - 1) * model.agree_s * 1e3:.3g} ms", f"{EPOCH_JETS / rate / 60:,.0f} min", "modelled",
    )  # fmt: skip


def _sorted(runs: Sequence[Found]) -> list[Found]:
    return sorted(runs, key=lambda run: (run["ranks"], run["threads"]))


def _times(run: Found, model: ScalingModel) -> str:
    rate = int(run["batch_size"]) * int(run["ranks"]) / _median(run, "train")
    return f"{rate / model.jets_per_s(1):.2f}"


def inference(runs: Sequence[Found]) -> Table:
    rows = [
        (
            _where(run), _spread(run, "inference", int(run["batch_size"]) * int(run["ranks"])),
            f"{waiting(run, 'inference'):.2%}",
        )
        for run in _sorted(runs)
    ]  # fmt: skip
    note = f"Batches of {runs[0]['batch_size']} from the loader, {runs[0]['precision']}, scores kept nowhere."
    return Table(("ranks", "jets/s (least - most)", "waiting for batches"), rows, [note])


#: Part -> what makes its table of its runs.
TABLES: Mapping[str, Callable[[Sequence[Found]], Table]] = {
    "io": io,
    "scaling": scaling,
    "inference": inference,
}
