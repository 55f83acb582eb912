"""Which worker holds which examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from trainer.distributed.task import Task, load_task, shard
from trainer.distributed.train import batch_of
from trainer.errors import TrainerError

SPEAKERS = ("ann", "bob", "", "ann", "eve", "ann", "", "bob", "dan", "") * 3


def task(speakers: tuple[str, ...] = SPEAKERS) -> Task:
    x, y = torch.zeros(30, 1, 1, 1), torch.zeros(30, dtype=torch.long)
    return Task("", x, y, x, y, 0.0, 1.0, speakers, nn.Flatten)


@pytest.mark.parametrize("partition", ["iid", "speaker"])
@pytest.mark.parametrize("workers", [2, 3])
def test_each_example_is_held_once(partition: str, workers: int) -> None:
    shards = [shard(task(), partition, rank, workers, 7) for rank in range(workers)]
    assert sorted(np.concatenate(shards).tolist()) == list(range(30))
    assert max(map(len, shards)) - min(map(len, shards)) <= (1 if partition == "iid" else 6)


def test_a_speaker_is_heard_by_one_worker() -> None:
    owners: dict[str, set[int]] = {}
    for rank in range(3):
        for example in shard(task(), "speaker", rank, 3, 0):
            owners.setdefault(SPEAKERS[example], set()).add(rank)
    assert owners.pop("") == {0, 1, 2}
    assert all(len(owner) == 1 for owner in owners.values()) and set.union(*owners.values()) == {0, 1, 2}


def test_speakers_must_be_enough() -> None:
    with pytest.raises(TrainerError, match="a speaker or more for each of 5 workers, got 4"):
        shard(task(), "speaker", 0, 5, 0)
    with pytest.raises(TrainerError, match="got 0"):
        shard(task(()), "speaker", 0, 2, 0)
    with pytest.raises(TrainerError, match="--partition: must be one of iid, speaker, got words"):
        shard(task(), "words", 0, 2, 0)


def test_small_digits_are_no_food_for_a_cnn() -> None:
    from rich.progress import Progress

    pytest.importorskip("sklearn")
    with Progress(disable=True) as progress, pytest.raises(TrainerError, match="needs 28 x 28 digits"):
        load_task("mnist_cnn", "digits", (), progress)


def test_a_worker_goes_through_its_own_in_new_orders() -> None:
    mine = np.array([3, 5, 8, 9, 11])
    drawn = np.concatenate([batch_of(mine, 4, step, (0, 1)) for step in range(5)])
    turns = drawn.reshape(4, 5)
    assert all(sorted(turn) == mine.tolist() for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1
    assert not np.array_equal(drawn[:4], batch_of(mine, 4, 0, (1, 1)))
