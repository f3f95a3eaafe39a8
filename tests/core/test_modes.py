"""Training mode, set where it is not."""

from __future__ import annotations

from torch import nn

from burnish.core.modes import Training, in_mode


class Counting(nn.Sequential):
    times = 0

    def train(self, mode: bool = True) -> Counting:
        self.times += 1
        return super().train(mode)


def test_training_is_set_once_and_again_where_somebody_has_changed_it() -> None:
    model = Counting(nn.Linear(2, 2), nn.Dropout())
    model[0].train = lambda mode=True: model[0]  # one that stays as it is
    model[0].training = False
    model[1].training = False
    training = Training(model)
    for _ in range(3):
        training.set()
    assert model.times == 1 and [one.training for one in model] == [False, True]
    with in_mode(model, training=False):
        assert not model[1].training
    training.set()
    assert model.times == 2
    model[1].eval()
    training.set()
    assert model.times == 3 and model[1].training
