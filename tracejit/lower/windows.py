"""What native code is told of windows over an image: sizes, strides, and runs of neighbouring pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tracejit.lower.binding import Binding
from tracejit.lower.patchrows import HEAD
from tracejit.passes.layout import Layout
from tracejit.passes.patches import AXES, Patches


def _filled(numbers: Sequence[int], by: int) -> list[int]:
    """Numbers for all spatial axes that native code knows, from those for the last ones."""
    return [by] * (AXES - len(numbers)) + list(numbers)


def window_operands(b: Binding, p: Patches, size: int) -> list[int]:
    """The slots with the numbers of HEAD and of each RUN, in their order; `size`: bytes of an element."""
    *sizes, pixel = (b.size(d) for d in p.shape[1:])
    batch, *strides, _ = (b.size(s) for s in p.image.strides)
    starts = [_filled([b.size(x) for x in start], 0) for start in p.starts]
    runs = list(_runs(starts, strides[-1] == pixel))
    numbers = {
        "pixel": pixel,
        "s_b": batch,
        "runs": len(runs),
        **_by_axis("size", sizes, 1),
        **_by_axis("s", strides, 0),
        **_by_axis("count", [b.size(c) for c in p.count], 1),
        **_by_axis("step", [b.size(s) for s in p.step], 0),
    }
    slots = {name: b.slot(x) for name, x in numbers.items()}
    slots["image"] = b.slot_at(p.image.base, p.image.offset, size)
    by = _filled(strides, 0)
    told = [x for run in runs for x in (*run, sum(a * s for a, s in zip(run, by, strict=False)))]
    return [slots[name] for name in HEAD] + [b.slot(x) for x in told]


def _by_axis(name: str, numbers: Sequence[int], by: int) -> dict[str, int]:
    return {f"{name}_{axis}": x for axis, x in zip("dhw", _filled(numbers, by), strict=True)}


def _runs(starts: Sequence[Sequence[int]], joined: bool) -> Iterator[list[int]]:
    """Where neighbouring pixels begin that are seen one after another, and how many they are."""
    run: list[int] = []
    for d, h, w in starts:
        if run and joined and [d, h, w] == [run[0], run[1], run[2] + run[3]]:
            run[3] += 1
            continue
        if run:
            yield run
        run = [d, h, w, 1]
    if run:
        yield run


def column_operands(b: Binding, a: Layout, size: int, width: int, length: int, stride: int) -> list[int]:
    """A matrix as patches: an image of one line, whose pixels are the rows, seen by windows of one pixel."""
    numbers = dict.fromkeys(HEAD, 1) | dict.fromkeys(("s_b", "s_d", "s_h", "step_d", "step_h"), 0)
    numbers |= {"pixel": width, "size_w": length, "count_w": length, "s_w": stride}
    slots = {name: b.slot(x) for name, x in numbers.items()}
    slots["image"] = b.slot_at(a.base, a.offset, size)
    return [slots[name] for name in HEAD] + [b.slot(x) for x in (0, 0, 0, 1, 0)]
