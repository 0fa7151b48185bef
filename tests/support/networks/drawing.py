"""What random networks are drawn with: choices, and a network that grows."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.support.networks.network import Invalid, Network

CHANNELS = (1, 2, 3, 4, 5, 8, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 100)
MAX_ELEMENTS = 6000
MAX_LOG_RATIO = 4       # of scales: TFLite's sums wrap around at ratios that no converter writes
ACTIVATIONS = ("NONE", "NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1")


class Drawing:
    """A network that grows by random layers."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = str(self.rng.choice(["int8", "uint8"]))
        self.net = Network(per_channel=bool(self.rng.integers(2)))

    def choice(self, options: Sequence[Any]) -> Any:
        """Raises Invalid when there are none."""
        if not options:
            raise Invalid("nothing to choose from")
        return options[int(self.rng.integers(len(options)))]

    def number(self, low: int, high: int) -> int:
        """Both ends included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def scale(self, low: float = 0.005, high: float = 0.08) -> float:
        return float(np.float32(np.exp(self.rng.uniform(np.log(low), np.log(high)))))

    def zero(self, dtype: str) -> int:
        info = np.iinfo(dtype)
        return self.choice([int(info.min), int(info.max)]) if self.chance(0.2) else self.number(info.min, info.max)

    def seed(self) -> int:
        return self.number(0, 999)

    def shape(self, value: int) -> tuple[int, ...]:
        return self.net.tensor(value).shape

    def pick(self, is_fit: Callable[[int], bool] = lambda value: True) -> int:
        """A value, the latest ones more often. Raises Invalid when none is fit."""
        fitting = [value for value in range(len(self.net.values)) if is_fit(value)]
        if not fitting:
            raise Invalid("no value is fit")
        return fitting[-1 - min(int(self.rng.geometric(0.4)) - 1, len(fitting) - 1)]

    def image(self) -> int:
        return self.pick(lambda value: len(self.shape(value)) == 4)

    def kind(self, value: int) -> tuple[object, ...]:
        """What must agree for MAXIMUM and CONCATENATION."""
        tensor = self.net.tensor(value)
        return tensor.dtype, tensor.scales, tensor.zero_points

    def like(self, value: int, other: int) -> int:
        """`other` quantised as `value`: itself, or by a QUANTIZE."""
        if self.kind(value) == self.kind(other):
            return other
        tensor = self.net.tensor(value)
        return self.net.one("quantize", other, dtype=tensor.dtype, scale=tensor.scale, zero=tensor.zero_point)

    def weighted(self, name: str, source: int, **parameters: Any) -> int:
        return self.fitted(name, source, activation=self.choice(ACTIVATIONS), seed=self.seed(), **parameters)

    def fitted(self, name: str, *sources: int, **parameters: Any) -> int:
        """A layer whose output is requantised: now and then to an odd zero point or to another's scale."""
        made = self.net.one(name, *sources, **parameters)
        tensor = self.net.tensor(made)
        if "scale" not in self.net.steps[-1].parameters or not self.chance(0.25):
            return made
        self.net.undo()
        other = self.net.tensor(self.pick())
        oddities = [{"zero": self.zero(tensor.dtype)}, {"scale": tensor.scale * 0.05, "zero": tensor.zero_point},
                    {"scale": tensor.scale * 8, "zero": tensor.zero_point}]
        if other.dtype == tensor.dtype and abs(np.log(other.scale / tensor.scale)) < MAX_LOG_RATIO:
            oddities.append({"scale": other.scale, "zero": other.zero_point})
        return self.net.one(name, *sources, **(parameters | self.choice(oddities)))


Drawer = Callable[[Drawing], object]
