"""The plan of docs/plan.md in plain Python, written from that page alone: the oracle of the tests.

``python tests/reference_plan.py > tests/golden/plan.json`` writes the golden file.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

WORD = (1 << 64) - 1
STRATA = 16
Draw = Callable[[int, int], int]  # (epoch, place) -> sample


def mix64(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & WORD
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & WORD
    return value ^ (value >> 31)


def plan_key(dataset_digest: str, seed: int, part: int | None = None) -> int:
    text = f"e2eio-plan-1\n{dataset_digest}\n{seed}\n"
    if part is not None:
        text += f"part {part}\n"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def epoch_key(key: int, epoch: int) -> int:
    return mix64(key ^ mix64(epoch))


def permuted(n: int, key: int, i: int) -> int:
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    keys = []
    for _ in range(6):
        key = mix64(key)
        keys.append(key)
    while True:
        left, right = i >> half, i & mask
        for round_key in keys:
            left, right = right, left ^ (mix64(right ^ round_key) & mask)
        i = left << half | right
        if i < n:
            return i


class FileOrder:
    def __init__(self, n: int) -> None:
        self.n_places = n

    def __call__(self, epoch: int, place: int) -> int:
        return place


class ShuffledOrder:
    def __init__(self, n: int, key: int) -> None:
        self.n_places, self.key = n, key

    def __call__(self, epoch: int, place: int) -> int:
        return permuted(self.n_places, epoch_key(self.key, epoch), place)


class WindowOrder:
    def __init__(self, n: int, key: int, extent: int) -> None:
        self.n_places, self.key = n, key
        window = STRATA * min(extent, n // STRATA + 1)
        self.n_windows = max(1, -(-n // window))
        self.extent = n // (self.n_windows * STRATA)
        self.tail = n - self.extent * self.n_windows * STRATA

    def begin_of_piece(self, window: int) -> int:
        size, more = divmod(self.tail, self.n_windows)
        return window * size + min(window, more)

    def begin_of(self, window: int) -> int:
        return window * STRATA * self.extent + self.begin_of_piece(window)

    def __call__(self, epoch: int, place: int) -> int:
        key = epoch_key(self.key, epoch)
        window = 0
        while self.begin_of(window + 1) <= place:
            window += 1
        size = self.begin_of(window + 1) - self.begin_of(window)
        i = permuted(size, mix64(key ^ mix64(STRATA + 1 + window)), place - self.begin_of(window))
        if i < STRATA * self.extent:
            stratum, offset = divmod(i, self.extent)
            number = permuted(self.n_windows, mix64(key ^ mix64(stratum)), window)
            return (stratum * self.n_windows + number) * self.extent + offset
        shift = mix64(key ^ mix64(STRATA)) % self.tail
        in_tail = (self.begin_of_piece(window) + i - STRATA * self.extent + shift) % self.tail
        return self.n_places - self.tail + in_tail


def integer_weights(weights: Sequence[float]) -> list[int]:
    exponent = 0
    largest = max(weights)
    while largest >= 2.0**exponent:
        exponent += 1
    while largest < 2.0 ** (exponent - 1):
        exponent -= 1
    # round() is to nearest even, as the page wants it.
    return [max(1, round(w * 2.0 ** (32 - exponent))) if w > 0 else 0 for w in weights]


class WeightedOrder:
    def __init__(self, weights: Sequence[int], key: int, n_places: int) -> None:
        self.n_places, self.key = n_places, key
        n, self.height = len(weights), sum(weights)
        self.level = [weight * n for weight in weights]
        self.alias = list(range(n))
        low = [i for i in range(n) if self.level[i] < self.height]
        high = [i for i in range(n) if self.level[i] >= self.height]
        while low:
            to, donor = low.pop(), high[-1]
            self.alias[to] = donor
            self.level[donor] -= self.height - self.level[to]
            if self.level[donor] < self.height:
                low.append(high.pop())

    def __call__(self, epoch: int, place: int) -> int:
        key = epoch_key(self.key, epoch)
        column = mix64(key ^ mix64(2 * place & WORD)) * len(self.level) >> 64
        level = mix64(key ^ mix64(2 * place + 1 & WORD)) * self.height >> 64
        return column if level < self.level[column] else self.alias[column]


class MixedOrder:
    def __init__(self, parts: Sequence[Any], shares: Sequence[int], n_places: int) -> None:
        self.n_places, self.parts, self.shares = n_places, parts, shares
        self.block: list[tuple[int, int]] = []
        taken = [0] * len(parts)
        for place in range(1, sum(shares) + 1):
            behind = [shares[i] * place - sum(shares) * taken[i] for i in range(len(parts))]
            part = behind.index(max(behind))
            self.block.append((part, taken[part]))
            taken[part] += 1

    def __call__(self, epoch: int, place: int) -> int:
        part, before = self.block[place % len(self.block)]
        blocks, rest = divmod(self.n_places, len(self.block))
        per_epoch = blocks * self.shares[part] + sum(p == part for p, _ in self.block[:rest])
        turn = epoch * per_epoch + place // len(self.block) * self.shares[part] + before
        order = self.parts[part]
        return int(order(*divmod(turn, order.n_places)))


class SelectedOrder:
    def __init__(self, order: Any, ids: Sequence[int]) -> None:
        self.n_places, self.order, self.ids = order.n_places, order, ids

    def __call__(self, epoch: int, place: int) -> int:
        return int(self.ids[self.order(epoch, place)])


def batches(
    order: Any, epoch: int, begin: int, rank: int, world: int, batch_size: int, drop_last: bool
) -> list[list[int]]:
    """All batches of a rank from a place on."""
    n, step, result = order.n_places, world * batch_size, []
    place = begin
    while place < n:
        size = batch_size
        if n - place < step:
            if drop_last:
                break
            size = -(-(n - place) // world)
        first = place + rank * size
        result.append([order(epoch, (first + i) % n) for i in range(size)])
        place += step
    return result


def order_of(spec: dict[str, Any]) -> Any:
    """The order that an entry of the golden file describes."""
    kind, key = spec["kind"], plan_key(spec.get("dataset", ""), spec.get("seed", 0))
    if kind == "file":
        return FileOrder(spec["n"])
    if kind == "shuffled":
        return ShuffledOrder(spec["n"], key)
    if kind == "window":
        return WindowOrder(spec["n"], key, spec["extent"])
    if kind == "weighted":
        return WeightedOrder(integer_weights(spec["weights"]), key, spec["n_places"])
    if kind == "selected":
        return SelectedOrder(order_of(spec["order"]), spec["ids"])
    return MixedOrder([order_of(p) for p in spec["parts"]], spec["shares"], spec["n_places"])


def digest_of(ranks: list[list[list[int]]]) -> str:
    """Of the ids of all ranks: each batch as its length and its ids, little-endian 64-bit."""
    digest = hashlib.blake2b(digest_size=8)
    for ids in (batch for rank in ranks for batch in rank):
        digest.update(struct.pack(f"<{len(ids) + 1}Q", len(ids), *ids))
    return digest.hexdigest()


def _orders() -> list[dict[str, Any]]:
    common = {"dataset": "00112233445566778899aabbccddeeff", "seed": 7}
    orders: list[dict[str, Any]] = [{"kind": "file", "n": 37}, {"kind": "file", "n": 1}]
    orders += [{"kind": "shuffled", "n": n, **common} for n in (1, 2, 3, 10, 64, 65, 1000)]
    orders += [
        {"kind": "window", "n": n, "extent": extent, **common}
        for n, extent in ((1, 1), (40, 2), (1000, 5), (1003, 16), (777, 1_000_000))
    ]
    weights = [1.0, 0.0, 2.5, 0.1, 7.0, 1e-30, 3.0]
    orders.append({"kind": "weighted", "weights": weights, "n_places": 100, **common})
    odd = {"kind": "shuffled", "n": 20, **common}
    orders.append({"kind": "selected", "order": odd, "ids": list(range(1, 41, 2))})
    parts = [
        {"kind": "selected", "order": {"kind": "shuffled", "n": 9, "dataset": "a", "seed": 1},
         "ids": list(range(9))},
        {"kind": "selected", "order": {"kind": "window", "n": 90, "extent": 3, "dataset": "b"},
         "ids": list(range(9, 99))},
    ]  # fmt: skip
    orders.append({"kind": "mixed", "parts": parts, "shares": [2, 5], "n_places": 99})
    return orders


def golden() -> list[dict[str, Any]]:
    entries = []
    for order_spec in _orders():
        order = order_of(order_spec)
        for epoch, begin, world, batch_size, drop_last in (
            (0, 0, 1, 8, False), (0, 0, 3, 4, True), (3, 0, 3, 4, False), (2**33, 5, 2, 7, False),
        ):  # fmt: skip
            begin = min(begin, order.n_places)
            ranks = [
                batches(order, epoch, begin, rank, world, batch_size, drop_last)
                for rank in range(world)
            ]
            plan = {"epoch": epoch, "begin": begin, "world_size": world, "batch_size": batch_size,
                    "drop_last": drop_last}  # fmt: skip
            first = [batch for rank in ranks for batch in rank[:1]]
            entries.append({"order": order_spec, **plan, "n_batches": len(ranks[0]),
                            "first": first, "digest": digest_of(ranks)})  # fmt: skip
    return entries


if __name__ == "__main__":
    print("[\n" + ",\n".join(json.dumps(entry) for entry in golden()) + "\n]")
