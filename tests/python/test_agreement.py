"""How ranks compare what they load: several ranks as threads, over a real store of torch.distributed."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from e2eio.distributed import agreement, check_agreement
from e2eio.distributed.agreement import compare, ranks_text
from e2eio.distributed.exchange import StoreExchange
from e2eio.errors import E2eioError, PlanMismatchError, RankMissingError

torch = pytest.importorskip("torch")
group: Any = torch.distributed

SAME = {"dataset": "3f21", "seed": 0, "length": 10}


def outcomes(
    store: Any, descriptions: dict[int, dict[str, Any]], world_size: int, timeout_s: float = 20.0
) -> dict[int, E2eioError | None]:
    """What each of these ranks ends with; the others do not come."""

    def one(rank: int) -> E2eioError | None:
        exchange = StoreExchange(store, rank, world_size)
        try:
            compare(
                exchange,
                descriptions[rank],
                rank=rank,
                world_size=world_size,
                timeout_s=timeout_s,
            )
        except E2eioError as error:
            return error
        return None

    with ThreadPoolExecutor(len(descriptions)) as pool:
        return dict(zip(descriptions, pool.map(one, descriptions), strict=True))


def test_ranks_that_agree_go_on_again_and_again() -> None:
    store = group.HashStore()
    for _ in range(5):
        assert set(outcomes(store, dict.fromkeys(range(6), SAME), 6).values()) == {None}
    assert store.num_keys() <= 6 + 5  # counters and answers; what the ranks said is gone


def test_every_rank_gets_the_same_list_of_differences() -> None:
    plans = {rank: dict(SAME) for rank in range(6)}
    plans[4]["dataset"] = plans[1]["dataset"] = "ab07"
    plans[5]["length"] = 9
    del plans[2]["seed"]
    found = outcomes(group.HashStore(), plans, 6)
    assert {type(error) for error in found.values()} == {PlanMismatchError}
    messages = {str(error) for error in found.values()}
    assert len(messages) == 1
    lines = messages.pop().splitlines()
    assert lines[1:4] == [
        '  dataset: "3f21" on ranks 0, 2-3, 5; "ab07" on ranks 1, 4',
        "  length: 10 on ranks 0-4; 9 on rank 5",
        "  seed: 0 on ranks 0-1, 3-5; (none) on rank 2",
    ]
    assert lines[4].startswith("expected the same on all ranks")


def test_who_does_not_come_is_named_on_every_rank() -> None:
    found = outcomes(group.HashStore(), dict.fromkeys((0, 1, 4), SAME), 6, timeout_s=0.2)
    for error in found.values():
        assert isinstance(error, RankMissingError)
        assert isinstance(error, TimeoutError)
        assert str(error).startswith("ranks 2-3, 5 did not come within 0.2 s")
        assert error.missing == (2, 3, 5)


def test_a_rank_that_gave_up_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "_ANSWER_S", 0.0)
    store = group.HashStore()
    (early,) = outcomes(store, {1: SAME}, 2, timeout_s=0.1).values()
    assert isinstance(early, RankMissingError)
    assert early.missing == (0,)
    (late,) = outcomes(store, {0: SAME}, 2, timeout_s=0.1).values()
    assert isinstance(late, RankMissingError)
    assert late.missing == (1,)


def test_who_waits_long_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "_SAY_S", 0.05)
    exchange = StoreExchange(group.HashStore(), 0, 3)
    with (
        pytest.warns(
            UserWarning, match=r"rank 0 waits for ranks 1-2 since .* world_size=1"
        ) as said,
        pytest.raises(RankMissingError),
    ):
        compare(exchange, SAME, rank=0, world_size=3, timeout_s=0.3)
    assert len(said) == 1


def test_ctrl_c_ends_the_wait() -> None:
    exchange = StoreExchange(group.HashStore(), 1, 2)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        compare(exchange, SAME, rank=1, world_size=2, timeout_s=25.0)


def test_a_store_that_is_gone_is_an_error_of_ours() -> None:
    server = group.TCPStore("127.0.0.1", 0, 2, True, timedelta(seconds=5), wait_for_workers=False)
    client = group.TCPStore("127.0.0.1", server.port, 2, False, timedelta(seconds=5))
    exchange = StoreExchange(client, 1, 2)
    del server
    with pytest.raises(RankMissingError, match="rank 1 lost the other ranks"):
        compare(exchange, SAME, rank=1, world_size=2, timeout_s=20.0)


def test_one_rank_or_no_time_is_no_comparison() -> None:
    assert check_agreement(SAME, rank=0, world_size=1) is False
    assert check_agreement(SAME, rank=0, world_size=2, timeout_s=0) is False
    assert check_agreement(SAME, rank=0, world_size=2, timeout_s=0.1) is False


def test_ranks_are_named_briefly() -> None:
    assert ranks_text([3]) == "rank 3"
    assert ranks_text([5, 0, 1, 2]) == "ranks 0-2, 5"
    assert ranks_text([0, 2]) == "ranks 0, 2"
