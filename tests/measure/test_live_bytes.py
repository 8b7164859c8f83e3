from __future__ import annotations

import torch

from tpopt.measure.live_bytes import LiveBytes


def test_storages_are_counted_from_making_to_freeing():
    given = torch.ones(10)
    with LiveBytes() as count:
        a = given + 1
        b = a.view(2, 5).t()
        c = b * 2
        assert (count.live, count.peak) == (80, 80)
        del a, b
        assert count.live == 40
        d = torch.cat([c, c])
        assert (count.live, tuple(d.shape)) == (120, (10, 2))
    del c, d
    assert (count.live, count.peak) == (0, 120)


def test_views_of_what_was_there_before_and_in_place_work_count_nothing():
    given = torch.ones(10)
    with LiveBytes() as count:
        given.add_(1)
        given.view(5, 2)[0].mul_(3)
    assert count.peak == 0
