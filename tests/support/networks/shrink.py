"""Makes a failing recipe small: whatever still fails in the same way, with fewer steps and smaller numbers."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.support.networks.check import Failure, check
from tests.support.networks.network import Invalid, Step
from tests.support.networks.recipe import Recipe

Check = Callable[[Recipe], object]
NUM_SEEDS = 3       # of the weights and of the inputs, for a candidate that does not fail at once


def checked(recipe: Recipe) -> object:
    """As the tests check a random network."""
    return check(recipe.model(), recipe.seed, recipe.match, recipe.cbuf, recipe.assume, recipe.deny)


def failure_of(recipe: Recipe, run: Check = checked) -> Failure | None:
    """None when it is right, or no network at all."""
    try:
        run(recipe)
    except Invalid:
        return None
    except Failure as failure:
        return failure
    return None


def shrink(recipe: Recipe, run: Check = checked, seconds: float = 60) -> Recipe:
    """The smallest recipe found that fails as this one does. Raises ValueError for one that does not fail.

    seconds   of the processor's time
    """
    wanted = failure_of(recipe, run)
    if wanted is None:
        raise ValueError("does not fail")
    end = time.process_time() + seconds
    smaller: Recipe | None = recipe
    while smaller is not None and time.process_time() < end:
        recipe = smaller
        smaller = next((found for candidate in _candidates(recipe) if time.process_time() < end
                        and (found := _failing(candidate.without_unread(), recipe, wanted, run)) is not None), None)
    return recipe


def _failing(candidate: Recipe, recipe: Recipe, wanted: Failure, run: Check) -> Recipe | None:
    """The candidate, or the same from other inputs, if it is smaller and fails."""
    size = _size(candidate)
    if size >= _size(recipe) or not size[0]:
        return None
    for seed in range(NUM_SEEDS):
        tried = candidate if seed == 0 else replace(candidate, seed=candidate.seed + seed)
        failure = failure_of(tried, run)
        if failure is not None and failure.kind == wanted.kind:
            return tried
    return None


def _size(recipe: Recipe) -> tuple[int, int, int, int]:
    """Steps that compute, outputs, sum of the numbers in the parameters, characters: what shrinking lowers."""
    computing = sum(step.layer != "input" for step in recipe.steps)
    numbers = sum(_weight(value) for step in recipe.steps for key, value in step.parameters.items() if key != "seed")
    text = sum(len(repr(step.parameters)) for step in recipe.steps) + (recipe.match != "tflite") + recipe.per_channel \
        + (recipe.cbuf != 256) + (recipe.assume != "on") + len(repr(recipe.deny))
    return computing, len(recipe.outputs), numbers, text


def _weight(value: object) -> int:
    if isinstance(value, (tuple, list)):
        return len(value) + sum(_weight(part) for part in value)
    if isinstance(value, (bool, str, float)) or value is None:
        return int(value not in ("NONE", "SAME", "", False, None) and not isinstance(value, float))
    return abs(value) if isinstance(value, int) else 0


# ---- candidates, the boldest first ---------------------------------------------------------------------------------

def _candidates(recipe: Recipe) -> Iterator[Recipe]:
    yield from _only_one_output(recipe)
    yield from _inputs_instead(recipe)
    yield from _without_a_step(recipe)
    yield from _fewer_outputs(recipe)
    yield from _simpler_options(recipe)
    yield from _smaller_parameters(recipe)


def _only_one_output(recipe: Recipe) -> Iterator[Recipe]:
    for value in range(sum(step.results for step in recipe.steps)):
        yield replace(recipe, outputs=(value,))


def _fewer_outputs(recipe: Recipe) -> Iterator[Recipe]:
    for i in range(len(recipe.outputs)):
        if len(recipe.outputs) > 1:
            yield replace(recipe, outputs=recipe.outputs[:i] + recipe.outputs[i + 1:])


def _inputs_instead(recipe: Recipe) -> Iterator[Recipe]:
    """An input of the same shape and quantisation instead of a step; the last steps first."""
    net = recipe.network()
    for index, start in reversed(list(enumerate(recipe.starts()))):
        step = recipe.steps[index]
        if step.layer == "input":
            continue
        made = []
        for value in range(start, start + step.results):
            tensor = net.tensor(value)
            made.append(Step("input", (), {"shape": tensor.shape, "dtype": tensor.dtype, "scale": tensor.scale,
                                           "zero": tensor.zero_point, "seed": 0}))
        steps = (*recipe.steps[:index], *made, *recipe.steps[index + 1:])
        yield replace(recipe, steps=steps)


def _without_a_step(recipe: Recipe) -> Iterator[Recipe]:
    """Those who read a step's result read one of its operands."""
    for index, start in enumerate(recipe.starts()):
        step = recipe.steps[index]
        for source in dict.fromkeys(step.sources):
            gone = range(start, start + step.results)
            steps = tuple(replace(s, sources=tuple(source if v in gone else v for v in s.sources))
                          for s in recipe.steps)
            outputs = tuple(dict.fromkeys(source if v in gone else v for v in recipe.outputs))
            yield replace(recipe, steps=steps, outputs=outputs)


def _simpler_options(recipe: Recipe) -> Iterator[Recipe]:
    if recipe.per_channel:
        yield replace(recipe, per_channel=False)
    if recipe.match != "tflite":
        yield replace(recipe, match="tflite")
    if recipe.cbuf != 256:
        yield replace(recipe, cbuf=256)
    if recipe.assume != "on":
        yield replace(recipe, assume="on")
    for i in range(len(recipe.deny)):
        yield replace(recipe, deny=recipe.deny[:i] + recipe.deny[i + 1:])


def _smaller_parameters(recipe: Recipe) -> Iterator[Recipe]:
    """One number lower, or a word at its default; scales rounded. Shapes of inputs: all inputs alike as well."""
    for index, step in enumerate(recipe.steps):
        for name, value in step.parameters.items():
            if name == "seed":
                continue
            for smaller in _smaller(value):
                yield _changed(recipe, index, name, smaller)
                if step.layer == "input" and name == "shape":
                    yield _all_inputs(recipe, value, smaller)


def _changed(recipe: Recipe, index: int, name: str, value: object) -> Recipe:
    step = recipe.steps[index]
    made = replace(step, parameters={**step.parameters, name: value})
    return replace(recipe, steps=(*recipe.steps[:index], made, *recipe.steps[index + 1:]))


def _all_inputs(recipe: Recipe, old: object, new: object) -> Recipe:
    return replace(recipe, steps=tuple(
        replace(s, parameters={**s.parameters, "shape": new}) if s.layer == "input" and s.parameters["shape"] == old
        else s for s in recipe.steps))


def _smaller(value: object) -> Iterator[object]:
    if isinstance(value, (tuple, list)):
        for i, part in enumerate(value):
            for smaller in _smaller(part):
                yield (*value[:i], smaller, *value[i + 1:])
    elif isinstance(value, str):
        yield from (default for default in ("NONE", "SAME", "RELU", "ADD") if default != value)
    elif isinstance(value, bool):
        yield from [False] * value
    elif isinstance(value, int) and value:
        yield from dict.fromkeys(candidate for candidate in (0, 1, value // 2, value - (1 if value > 0 else -1))
                                 if abs(candidate) < abs(value))
    elif isinstance(value, float):
        yield from (rounded for digits in (1, 2, 3) if (rounded := float(f"{value:.{digits}g}")) != value)
