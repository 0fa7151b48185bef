"""Random blocks of several layers, as networks that people know have them. Conventions: drawers.py."""
from __future__ import annotations

from tests.support.networks.drawing import CHANNELS, MAX_ELEMENTS, Drawer, Drawing
from tests.support.networks.layers_float import FLOAT_BINARY, FLOAT_UNARY

MAX_CHANNELS = 100


def _image(d: Drawing, least: int = 1) -> int:
    return d.pick(lambda value: len(d.shape(value)) == 4 and least <= d.shape(value)[3] <= MAX_CHANNELS)


def dense(d: Drawing) -> None:
    """Layers that each read all maps before them, joined."""
    joined = _image(d)
    grown = d.choice([4, 5, 8, 16])
    for _ in range(d.number(1, 3)):
        tensor, source = d.net.tensor(joined), joined
        if d.chance(0.5):
            source = normalised(d, source)
        made = d.net.one("conv", source, outputs=grown, kernel=(d.choice([1, 3]),) * 2, seed=d.seed(),
                         scale=tensor.scale, zero=tensor.zero_point)
        joined = d.net.one("concatenation", joined, made, axis=3)


def normalised(d: Drawing, source: int | None = None) -> int:
    """MUL and ADD by a constant for each channel."""
    source = _image(d) if source is None else source
    shape = (d.shape(source)[3],)
    product = d.net.one("with_constant", source, operation="MUL", shape=shape, seed=d.seed(), constant_scale=d.scale(
        0.002, 0.05))
    return d.fitted("with_constant", product, operation=d.choice(["ADD", "ADD", "SUB"]), shape=shape, seed=d.seed(),
                    constant_scale=d.scale(0.002, 0.05), activation=d.choice(["NONE", "RELU"]))


def cross_stage(d: Drawing) -> None:
    """Channels are split, one part is worked on, all are joined again, perhaps in another order."""
    source = _image(d, least=2)
    channels = d.shape(source)[3]
    first = d.choice([n for n in (channels // 2, 16, 32, d.number(1, channels - 1)) if 0 < n < channels])
    kept, used = d.net.apply("split", source, axis=3, sizes=(first, channels - first))
    tensor, parts = d.net.tensor(source), [kept]
    for _ in range(d.number(1, 3)):
        used = d.net.one("conv", used, outputs=d.choice([channels - first, d.choice(CHANNELS[:14])]), seed=d.seed(),
                         kernel=(d.choice([1, 1, 3]),) * 2, scale=tensor.scale, zero=tensor.zero_point)
        parts = [used, *parts] if d.chance(0.6) else [used, kept]
    d.net.apply("concatenation", *(int(part) for part in d.rng.permutation(parts)), axis=3)


def shuffle(d: Drawing) -> None:
    """Channels of two groups or more take turns: a RESHAPE, a TRANSPOSE and a RESHAPE."""
    source = _image(d, least=4)
    n, height, width, channels = d.shape(source)
    groups = d.choice([g for g in (2, 3, 4, 8) if channels % g == 0])
    (apart,) = d.net.apply("reshape", source, shape=(n, height, width, groups, channels // groups))
    (turned,) = d.net.apply("transpose", apart, order=(0, 1, 2, 4, 3))
    d.net.apply("reshape", turned, shape=(n, height, width, channels))


def heads(d: Drawing) -> None:
    """Outputs of a detector: convolutions of one or two maps, their pixels in one list."""
    kept, made = d.choice([2, 4, 5, 16, 21]), []
    sources = [_image(d) for _ in range(d.number(1, 3))]
    tensor = None
    for source in sources:
        images, height, width, _ = d.shape(source)
        anchors = d.number(1, 3)
        outputs = anchors * kept
        if images > 1 or height * width * outputs > MAX_ELEMENTS or d.net.tensor(source).dtype != d.dtype:
            return
        fixed = {} if tensor is None else {"scale": tensor.scale, "zero": tensor.zero_point}
        head = d.net.one("conv", source, outputs=outputs, seed=d.seed(), **fixed)
        tensor = tensor or d.net.tensor(head)
        made.append(d.net.one("reshape", head, shape=(1, height * width * anchors, kept)))
    joined = d.net.one("concatenation", *made, axis=1) if len(made) > 1 else made[0]
    if d.chance(0.5):
        d.net.apply("unary", joined, function="LOGISTIC")


def dilated(d: Drawing) -> None:
    """SPACE_TO_BATCH_ND, a convolution, BATCH_TO_SPACE_ND: a dilation as converters used to write it."""
    source = _image(d)
    size = d.shape(source)[1:3]
    block, kernel = (d.number(1, 3), d.number(1, 3)), d.choice([1, 3, 3])
    same = d.chance(0.7)
    before = [b * (kernel // 2) * same for b in block]
    behind = [p + -(n + 2 * p) % b for n, b, p in zip(size, block, before, strict=True)]
    paddings = tuple(zip(before, behind, strict=True))
    (apart,) = d.net.apply("space_to_batch", source, block=block, paddings=paddings)
    if d.chance(0.5):
        made = d.weighted("conv", apart, outputs=d.choice(CHANNELS[:14]), kernel=(kernel, kernel), padding="VALID")
    else:
        made = d.weighted("depthwise", apart, kernel=(kernel, kernel), padding="VALID")
    if d.chance(0.2):
        made = d.net.one("unary", made, function="LEAKY_RELU", alpha=0.1)
    sizes = [n * b for n, b in zip(d.shape(made)[1:3], block, strict=True)]
    crops = tuple((0, max(0, s - n) if same else d.number(0, min(1, s - 1)))
                  for s, n in zip(sizes, size, strict=True))
    d.net.apply("batch_to_space", made, block=block, crops=crops)


def float_chain(d: Drawing) -> None:
    """Float operations between 8-bit tensors."""
    names = [*FLOAT_UNARY, *FLOAT_BINARY]
    functions = [d.choice(names) for _ in range(d.number(1, 3))]
    if "SQRT" in functions:
        functions.insert(functions.index("SQRT"), "ABS")
    d.fitted("float_chain", d.pick(), functions=tuple(functions), constant=d.choice([0.5, -1.25, 3.0]), dtype=d.dtype)


BLOCKS: dict[Drawer, float] = {
    float_chain: 0.4,
    dense: 0.3, normalised: 0.4, cross_stage: 0.5, shuffle: 0.3, heads: 0.3, dilated: 0.3}
