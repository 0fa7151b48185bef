"""Networks as text: one call of a layer in a line, in Python's syntax.

    # int8 weights per tensor; inputs from seed 7
    network(per_channel=False, match="tflite", seed=7, cbuf=256, assume="on", deny=())
    t0 = input(shape=(1, 4, 4, 8), scale=0.03, zero=-3)
    t1 = conv(t0, outputs=5, kernel=(3, 3), seed=11, scale=0.07, zero=4)
    t2, t3 = split(t1, axis=3, sizes=(2, 3))
    outputs(t2, t3)
"""
from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.support.model_builder import Model
from tests.support.networks import (  # noqa: F401  (layers register themselves)
    layers_elementwise,
    layers_float,
    layers_move,
    layers_pool,
    layers_reorder,
    layers_weighted,
)
from tests.support.networks.network import LAYERS, Network, Step

LINE_CHARACTERS = 116


@dataclass(frozen=True)
class Recipe:
    """outputs: values; seed: of the inputs' contents; cbuf: entries in one bank.

    match, assume, deny   the compiler's options
    """

    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    per_channel: bool = True
    match: str = "tflite"
    seed: int = 0
    cbuf: int = 256
    assume: str = "on"
    deny: tuple[str, ...] = ()

    def network(self) -> Network:
        """Raises Invalid when a layer does not fit its operands."""
        net = Network(per_channel=self.per_channel)
        for step in self.steps:
            net.apply(step.layer, *step.sources, **step.parameters)
        return net

    def model(self) -> Model:
        return self.network().model(self.outputs)

    def without_unread(self) -> Recipe:
        """Without the steps from which no output comes."""
        needed, kept = set(self.outputs), []
        starts = self.starts()
        for step, start in reversed(list(zip(self.steps, starts, strict=True))):
            if needed.intersection(range(start, start + step.results)):
                needed.update(step.sources)
                kept.append((step, start))
        return self.renumbered(kept[::-1])

    def starts(self) -> list[int]:
        """The number of each step's first value."""
        numbers, start = [], 0
        for step in self.steps:
            numbers.append(start)
            start += step.results
        return numbers

    def renumbered(self, kept: list[tuple[Step, int]]) -> Recipe:
        """Of steps that are left, with the numbers of the first value that each had."""
        numbers: dict[int, int] = {}
        for step, start in kept:
            for value in range(start, start + step.results):
                numbers[value] = len(numbers)
        steps = tuple(replace(step, sources=tuple(numbers[s] for s in step.sources)) for step, _ in kept)
        return replace(self, steps=steps, outputs=tuple(numbers[o] for o in self.outputs))


def to_text(recipe: Recipe, comment: str = "") -> str:
    lines = [f"# {line}" for line in comment.splitlines()]
    lines.append(f"network(per_channel={recipe.per_channel}, match={recipe.match!r}, seed={recipe.seed}, "
                 f"cbuf={recipe.cbuf}, assume={recipe.assume!r}, deny={recipe.deny!r})")
    for step, start in zip(recipe.steps, recipe.starts(), strict=True):
        names = ", ".join(f"t{value}" for value in range(start, start + step.results))
        words = [*(f"t{s}" for s in step.sources), *(f"{k}={v!r}" for k, v in step.parameters.items())]
        lines += _wrapped(f"{names} = {step.layer}(", words)
    lines.append(f"outputs({', '.join(f't{o}' for o in recipe.outputs)})")
    return "\n".join(lines) + "\n"


def _wrapped(start: str, words: list[str]) -> Iterator[str]:
    line = start
    for i, word in enumerate(words):
        word += ")" if i == len(words) - 1 else ", "
        if len(line) + len(word) > LINE_CHARACTERS:
            yield line.rstrip()
            line = "    "
        line += word
    yield line


def from_text(text: str) -> Recipe:
    """Raises ValueError for what is not a recipe."""
    recipe, steps, names = Recipe((), ()), [], dict[str, int]()
    for statement in ast.parse(text).body:
        call = statement.value      # type: ignore[attr-defined]
        sources = tuple(names[argument.id] for argument in call.args)
        keywords = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
        if call.func.id == "network":
            recipe = replace(recipe, **keywords)
        elif call.func.id == "outputs":
            recipe = replace(recipe, outputs=sources)
        elif call.func.id in LAYERS:
            (target,) = statement.targets   # type: ignore[attr-defined]
            made = [name.id for name in (target.elts if isinstance(target, ast.Tuple) else [target])]
            steps.append(Step(call.func.id, sources, keywords, len(made)))
            names |= {name: number for number, name in enumerate(made, len(names))}
        else:
            raise ValueError(f"line {statement.lineno}: unknown layer {call.func.id}")
    return replace(recipe, steps=tuple(steps))
