"""Adam and the learning rates of the benchmarks, epoch by epoch."""

from __future__ import annotations

from typing import Any

import pytest

from e2eio.errors import ConfigError

torch = pytest.importorskip("torch")

from e2eio import models  # noqa: E402 - torch may be missing


def adam(world_size: int = 1) -> Any:
    return models.optimizer(torch.nn.Linear(2, 1), world_size=world_size)


def rates_of(scheduler: Any, n: int) -> list[float]:
    """The rates that the optimizer has in the first n steps of the scheduler."""
    found = []
    for _ in range(n):
        (group,) = scheduler.optimizer.param_groups
        found.append(float(group["lr"]))
        scheduler.optimizer.step()
        scheduler.step()
    return found


def test_optimizer_is_that_of_the_benchmarks() -> None:
    model = models.resnet15(1, shape=(32, 32))
    optimizer = models.optimizer(model)
    assert type(optimizer) is torch.optim.Adam
    (group,) = optimizer.param_groups
    assert (group["lr"], group["eps"], group["weight_decay"]) == (5e-4, 1e-8, 0)
    assert group["betas"] == (0.9, 0.999)
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters()}
    scaled = models.optimizer(model, learning_rate=1e-3, world_size=4)
    assert scaled.param_groups[0]["lr"] == 4e-3


def test_one_rank_halves_every_ten_epochs_as_step_lr() -> None:
    found = rates_of(models.schedule(adam()), 30)
    assert found == [5e-4] * 10 + [2.5e-4] * 10 + [1.25e-4] * 10
    assert found == rates_of(torch.optim.lr_scheduler.StepLR(adam(), 10, 0.5), 30)


def test_many_ranks_warm_up_over_five_epochs() -> None:
    found = rates_of(models.schedule(adam(8), world_size=8), 21)
    # From the rate of one rank, 5e-4, which would be epoch -1, in five equal steps to that of eight.
    rising = [5e-4 * (1 + 7 * epoch / 5) for epoch in (1, 2, 3, 4, 5)]
    assert found == pytest.approx(rising + [4e-3] * 5 + [2e-3] * 10 + [1e-3], rel=1e-12)


def test_warm_up_by_steps_is_that_of_horovod() -> None:
    ranks, per_epoch = 4, 10
    found = rates_of(
        models.schedule(adam(ranks), world_size=ranks, steps_per_epoch=per_epoch), 21 * per_epoch
    )
    for step, rate in enumerate(found):
        epoch = step // per_epoch + step % per_epoch / per_epoch
        factor = 0.5 ** (step // per_epoch // 10)
        if epoch < 5:
            # horovod/_keras/callbacks.py, LearningRateWarmupCallbackImpl.
            factor *= 1 / ranks * ((epoch + 1 / per_epoch) * (ranks - 1) / 5 + 1)
        assert rate == pytest.approx(5e-4 * ranks * factor, rel=1e-12), step
    assert found[5 * per_epoch - 1] == 5e-4 * ranks
    assert found[5 * per_epoch - 2] < 5e-4 * ranks


def test_without_warm_up_the_rate_is_full_at_once() -> None:
    found = rates_of(models.schedule(adam(2), world_size=2, warmup_epochs=0, halve_every=2), 5)
    assert found == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4]


@pytest.mark.parametrize("stop", [3, 7, 12])
def test_schedule_goes_on_from_its_state(stop: int, tmp_path: Any) -> None:
    whole = rates_of(models.schedule(adam(2), world_size=2), 25)
    optimizer = adam(2)
    rates = models.schedule(optimizer, world_size=2)
    first = rates_of(rates, stop)
    torch.save([optimizer.state_dict(), rates.state_dict()], tmp_path / "state.pt")
    optimizer = adam(2)
    rates = models.schedule(optimizer, world_size=2)
    # weights_only, torch's default: the state holds plain numbers.
    for part, state in zip((optimizer, rates), torch.load(tmp_path / "state.pt"), strict=True):
        part.load_state_dict(state)
    assert first + rates_of(rates, 25 - stop) == whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"world_size": 0}, "world_size is 0; expected an integer of at least 1"),
        ({"steps_per_epoch": 0}, "steps_per_epoch is 0"),
        ({"steps_per_epoch": 1.5}, "steps_per_epoch is 1.5"),
        ({"warmup_epochs": -1}, "warmup_epochs is -1; expected an integer of at least 0"),
        ({"halve_every": 0}, "halve_every is 0"),
    ],
)
def test_impossible_schedules_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        models.schedule(adam(), **arguments)


@pytest.mark.parametrize("rate", [0, -1e-3, float("inf"), float("nan")])
def test_impossible_learning_rates_are_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="bad learning rate: found"):
        models.optimizer(torch.nn.Linear(2, 1), learning_rate=rate)
    with pytest.raises(ConfigError, match="world_size is 0"):
        models.optimizer(torch.nn.Linear(2, 1), world_size=0)
