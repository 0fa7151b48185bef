"""From tasks with symbolic addresses to a Program: places, BOs, relocations, jobs, ports."""
from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cermet.drivers.base import Bo, CompileError, Job, Program, Relocation, Task, TensorPort
from cermet.drivers.rocket.changed_registers import changed_only
from cermet.drivers.rocket.context import UINT8_FLIP, Context
from cermet.drivers.rocket.jobs import job_starts, with_witness, written_by
from cermet.drivers.rocket.layout import ATOM_BYTES, ceil_div, round_up
from cermet.drivers.rocket.passes.fold_strides import Folding
from cermet.drivers.rocket.placement.arena import ALIGNMENT_BYTES, Lifetime, lifetimes, place
from cermet.drivers.rocket.regcmd import Address, Buffer, TaskProgram
from cermet.drivers.rocket.self_chains import MAX_PROGRAMS, chains_of, with_task_numbers
from cermet.drivers.rocket.steps import FETCH_WORDS, next_words, steps_of
from cermet.ir.tensor import DType

# The kernel kills a job that runs longer than 500 ms. Mainline leaves the NPU at 200 MHz, where 10 million
# cycles are 50 ms; memory may make that several times more.
MAX_JOB_CYCLES = 10_000_000
ROLES = ("constant", "arena", "input", "output")
MAX_BO_BYTES = 0x7FFF_F000      # above, the kernel's mapped length, a signed 32-bit number, is negative


def assemble(context: Context, tasks: Sequence[TaskProgram]) -> Program:
    """The program of a partition whose tasks run in the given order."""
    for tensor in (*context.subgraph.inputs, *context.subgraph.outputs):
        context.feature_map(tensor)     # an input that nothing reads still has a place
    tasks = with_witness(context, tasks)
    written = [written_by(context.soc.registers, task) for task in tasks]
    chains_itself = context.options.chains_itself
    starts = job_starts(tasks, written, MAX_JOB_CYCLES, MAX_PROGRAMS if chains_itself else len(tasks))
    steps = () if chains_itself else steps_of(tasks)
    tasks = changed_only(context.soc, context.options, tasks, {*starts, *(step.first_task for step in steps)})
    if chains_itself:
        chains = chains_of(starts, len(tasks))
        tasks = with_task_numbers(context.soc, tasks, chains)
    else:
        chains = [range(step.first_task, step.first_task + step.num_tasks) for step in steps]
    constants, programs, constant_bytes = _constant_section(context, tasks)
    ends = [*starts[1:], len(tasks)]
    witnesses = [written[end - 1].last_atom for end in ends]
    alive = _alive(context, tasks, witnesses)
    places = _places(context, alive, constants)
    sizes = {**_bo_sizes(context, places), "constant": constant_bytes}
    _check_sizes(sizes)
    numbers = {role: i for i, role in enumerate(r for r in ROLES if sizes[r])}
    image = _constant_image(context, constants, programs, tasks, sizes["constant"])
    bos = tuple(Bo(role, sizes[role], image if role == "constant" else b"") for role in numbers)
    jobs = _jobs(starts, ends, [_place(places, witness) for witness in witnesses], numbers)
    return Program(
        bos=bos, relocations=_relocations(tasks, programs, places, numbers),
        tasks=tuple(Task(numbers["constant"], offset, len(task.words), words)
                    for offset, task, words in zip(programs, tasks, next_words(tasks, chains), strict=True)),
        jobs=jobs, steps=steps,
        inputs=tuple(_port(context, t, places, numbers) for t in context.subgraph.inputs),
        outputs=tuple(_port(context, t, places, numbers) for t in context.subgraph.outputs),
        debug={"soc": context.soc.name, "tasks": [_describe(task) for task in tasks],
               "blocks": [[made.convolution, made.block.y, made.block.x] for made in context.foldings.values()],
               "together": [[op.index, *op.fused] for op in context.subgraph.operations if op.fused],
               "arena": [[each.name, places[each.name][1], each.size_bytes, each.first_task, each.last_task]
                         for each in alive]})


Places = Mapping[str, tuple[str, int]]


def _constant_section(context: Context, tasks: Sequence[TaskProgram]) -> tuple[dict[str, int], list[int], int]:
    """Offsets of constant buffers and of the programs behind them, and the size of all."""
    offset = 0
    constants: dict[str, int] = {}
    for buffer in context.buffers.values():
        if buffer.role == "constant":
            constants[buffer.name] = offset
            offset = round_up(offset + buffer.size_bytes, ALIGNMENT_BYTES)
    programs = []
    for task in tasks:
        programs.append(offset)
        offset += program_bytes(len(task.words))
    return constants, programs, offset


def program_bytes(num_words: int) -> int:
    """What a register program takes in memory."""
    return round_up(round_up(num_words, FETCH_WORDS) * 8, ALIGNMENT_BYTES)


def _place(places: Places, address: Address) -> tuple[str, int]:
    """(role, offset) of an address."""
    role, start = places[address.buffer]
    return role, start + address.offset_bytes


def _alive(context: Context, tasks: Sequence[TaskProgram], witnesses: Sequence[Address]) -> list[Lifetime]:
    """Of the arena's buffers. One with a witness shares its memory with no other: from the first task to the last."""
    arena = {b.name: b.size_bytes for b in context.buffers.values() if b.role == "arena"}
    touched = [t.reads | t.writes for t in tasks]
    kept = frozenset(witness.buffer for witness in witnesses)
    touched[0] |= kept
    touched[-1] |= kept
    return lifetimes(arena, [sorted(names) for names in touched])


def _places(context: Context, alive: Sequence[Lifetime], constants: Mapping[str, int]) -> dict[str, tuple[str, int]]:
    """Buffer name -> (role, offset): activations by their lifetimes, inputs and outputs one behind the other."""
    places = {name: ("constant", offset) for name, offset in constants.items()}
    offsets, _ = place(alive)
    places.update({name: ("arena", offset) for name, offset in offsets.items()})
    for role in ("input", "output"):
        offset = 0
        for buffer in _of_role(context, role):
            places[buffer.name] = (role, offset)
            offset = round_up(offset + buffer.size_bytes, ALIGNMENT_BYTES)
    return places


def _of_role(context: Context, role: str) -> list[Buffer]:
    return [b for b in context.buffers.values() if b.role == role]


def _bo_sizes(context: Context, places: Places) -> dict[str, int]:
    """Bytes of each role's BO, without the programs."""
    sizes = dict.fromkeys(ROLES, 0)
    for name, (role, offset) in places.items():
        sizes[role] = max(sizes[role], round_up(offset + context.buffers[name].size_bytes, ALIGNMENT_BYTES))
    return sizes


def _check_sizes(sizes: Mapping[str, int]) -> None:
    for role, size in sizes.items():
        if size > MAX_BO_BYTES:
            raise CompileError(f"assemble: the {role} buffer needs {size} bytes, at most {MAX_BO_BYTES} are possible")


def _constant_image(context: Context, constants: Mapping[str, int], programs: Sequence[int],
                    tasks: Sequence[TaskProgram], size_bytes: int) -> bytes:
    image = bytearray(size_bytes)
    for name, offset in constants.items():
        data = context.buffers[name].data
        image[offset:offset + len(data)] = data
    for offset, task in zip(programs, tasks, strict=True):
        struct.pack_into(f"<{len(task.words)}Q", image, offset, *task.words)
    return bytes(image)


def _relocations(tasks: Sequence[TaskProgram], programs: Sequence[int], places: Places,
                 numbers: Mapping[str, int]) -> tuple[Relocation, ...]:
    relocations = []
    for offset, task in zip(programs, tasks, strict=True):
        for word, address in task.addresses.items():
            role, start = places[address.buffer]
            relocations.append(Relocation(numbers["constant"], offset + 8 * word, numbers[role],
                                          start + address.offset_bytes))
    return tuple(relocations)


def _jobs(starts: Sequence[int], ends: Sequence[int], witnesses: Sequence[tuple[str, int]],
          numbers: Mapping[str, int]) -> tuple[Job, ...]:
    in_bos = tuple(numbers[role] for role in ("constant", "input") if role in numbers)
    out_bos = tuple(numbers[role] for role in ("arena", "output") if role in numbers)
    return tuple(Job(start, end - start, in_bos, out_bos, numbers[role], offset)
                 for start, end, (role, offset) in zip(starts, ends, witnesses, strict=True))


def _port(context: Context, tensor: int, places: Places, numbers: Mapping[str, int]) -> TensorPort:
    """How the runtime converts a tensor that crosses the border."""
    described = context.tensor(tensor)
    layout = context.feature_map(tensor)
    role, start = places[layout.address.buffer]
    port = TensorPort(
        tensor=tensor, bo=numbers[role], layout="atoms", offset_bytes=start + layout.address.offset_bytes, batch=1,
        height=layout.height, width=layout.width, channels=layout.channels,
        batch_stride_bytes=layout.surface_bytes * ceil_div(layout.channels, ATOM_BYTES),
        line_stride_bytes=layout.width * ATOM_BYTES, surface_stride_bytes=layout.surface_bytes,
        flip=UINT8_FLIP if described.dtype is DType.UINT8 else 0, fill=layout.zero_point & 0xFF)
    return _folded_port(port, context.foldings[tensor]) if tensor in context.foldings else port


def _folded_port(port: TensorPort, folding: Folding) -> TensorPort:
    """The same atoms, filled from blocks of the application's pixels. Images follow each other in each surface."""
    images, height, width, channels = folding.shape
    return replace(port, batch=images, height=height, width=width, channels=channels, fold_y=folding.block.y,
                   fold_x=folding.block.x, batch_stride_bytes=port.surface_stride_bytes // images)


def _describe(task: TaskProgram) -> dict[str, object]:
    return {"layer": task.layer, "operations": list(task.operations), "macs": task.macs, "cycles": task.cycles,
            "assumed": list(task.assumed)}
