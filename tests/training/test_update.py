"""The update of several ranks, in real processes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.training.forks import Forks


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of two ranks found, by algorithm."""
    forks = Forks(tmp_path_factory.mktemp("forks") / "log")
    by_algo = {}
    for algo in ("ppo", "maskable_ppo"):
        folder = tmp_path_factory.mktemp(algo)
        pids = forks.start_ranks([folder, algo], "tests.training.ranked_updates")
        assert [forks.wait(pid) for pid in pids] == [0, 0], forks.log.read_text()
        by_algo[algo] = [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]
    forks.close()
    return by_algo


@pytest.mark.parametrize("algo", ["ppo", "maskable_ppo"])
class TestTwoRanks:
    def test_have_the_gradient_of_one_process_with_all_environments(self, found, algo):
        for rank in found[algo]:
            assert rank["largest"] > 1e-4
            assert rank["off"] < 1e-5 * rank["largest"]

    def test_end_an_update_by_target_kl_where_one_process_does(self, found, algo):
        for rank in found[algo]:
            alone, together = rank["updates"]
            assert alone == together
            assert 1 < alone < 4

    def test_log_the_figures_of_one_process(self, found, algo):
        for rank in found[algo]:
            alone, together = rank["figures"]
            assert together == pytest.approx(alone, abs=1e-5)

    def test_have_the_same_weights_after_every_step_of_the_optimiser(self, found, algo):
        first, second = (rank["digests"] for rank in found[algo])
        assert first == second
        assert len(first) == len(set(first)) == 2 * 2 * 3

    def test_normalise_each_minibatchs_advantages_together(self, found, algo):
        minibatches = [
            np.concatenate(parts) for parts in zip(*(rank["advantages"] for rank in found[algo]), strict=True)
        ]
        assert [len(each) for each in minibatches] == 2 * [8, 8, 4]
        for each in minibatches:
            assert each.mean() == pytest.approx(0, abs=1e-6)
            assert each.std(ddof=1) == pytest.approx(1, abs=1e-5)

    def test_end_together_where_a_callback_of_one_ends_it(self, found, algo):
        assert [rank["updates_until_one_ended_it"] for rank in found[algo]] == [1, 1]

    def test_log_of_few_episodes_all_and_of_many_the_newest_of_each(self, found, algo):
        (few, many), *others = [rank["episodes"] for rank in found[algo]]
        assert others == [[[], []]]
        assert sorted(few) == [[rank, rollout, each] for rank in (0, 1) for rollout in (0, 1) for each in range(3)]
        assert sorted(many) == [[rank, 1, each] for rank in (0, 1) for each in range(100, 150)]
