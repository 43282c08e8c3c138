"""Malformed and odd image files: read as a run reads them, and counted.

Each batch of files is read in a process of its own, so that a crash or a hang is seen as one.
"""

import collections
import functools
import io
import json
import pathlib
import random
import shutil
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from ifnd_tf.data import eval_batches, recipes, train_batches
from ifnd_tf.data.folder import open_folder
from ifnd_tf.data.scan import scan
from tests.system.faults import child

# What becomes of a kind: readable for sure, unreadable for sure, or as the decoder finds.
_GOOD, _BAD, _EITHER = "good", "bad", "either"
_FORMATS = {"jpg": "JPEG", "png": "PNG", "bmp": "BMP", "gif": "GIF", "webp": "WEBP"}
_BATCH = 250
_SECONDS = 300.0


def _picture(draw: random.Random, width: int = 0, height: int = 0) -> Image.Image:
    width, height = width or draw.randint(8, 90), height or draw.randint(8, 90)
    rng = np.random.default_rng(draw.getrandbits(32))
    small = rng.integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)


def _bytes(image: Image.Image, kind: str, **options: Any) -> bytes:
    packed = io.BytesIO()
    image.save(packed, _FORMATS[kind], **options)
    return packed.getvalue()


def _any(draw: random.Random) -> tuple[str, bytes]:
    kind = draw.choice(list(_FORMATS))
    return kind, _bytes(_picture(draw), kind)


def _truncated(draw: random.Random) -> tuple[str, bytes]:
    kind, content = _any(draw)
    return kind, content[: draw.randint(1, int(len(content) * 0.8))]


def _header(draw: random.Random) -> tuple[str, bytes]:
    kind, content = _any(draw)
    return kind, content[: draw.randint(1, 12)]


def _flipped(draw: random.Random) -> tuple[str, bytes]:
    kind, content = _any(draw)
    changed = bytearray(content)
    for _ in range(draw.randint(1, 20)):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return kind, bytes(changed)


def _spliced(draw: random.Random) -> tuple[str, bytes]:
    (kind, one), (_, other) = _any(draw), _any(draw)
    return kind, one[: draw.randrange(len(one))] + other[draw.randrange(len(other)) :]


def _bomb(draw: random.Random) -> tuple[str, bytes]:
    kind = draw.choice(["png", "jpg", "gif", "bmp"])
    content = bytearray(_bytes(_picture(draw, 16, 16), kind))
    if kind == "png":
        content[16:24] = struct.pack(">II", 50_000, 60_000)
    elif kind == "gif":
        content[6:10] = struct.pack("<HH", 60_000, 60_000)
    elif kind == "bmp":
        content[18:26] = struct.pack("<ii", 50_000, draw.choice([60_000, -60_000]))
    else:
        at = content.index(b"\xff\xc0")
        content[at + 5 : at + 9] = struct.pack(">HH", 60_000, 60_000)
    return kind, bytes(content)


def _animated(draw: random.Random) -> tuple[str, bytes]:
    frames = [_picture(draw, 20, 16).convert("P") for _ in range(3)]
    return "gif", _bytes(frames[0], "gif", save_all=True, append_images=frames[1:])


def _rotated(draw: random.Random) -> tuple[str, bytes]:
    exif = Image.Exif()
    exif[0x0112] = draw.randint(2, 8)
    return "jpg", _bytes(_picture(draw), "jpg", exif=exif)


def _sixteen_bit(draw: random.Random) -> tuple[str, bytes]:
    grey = np.random.default_rng(draw.getrandbits(32)).integers(0, 65_536, (20, 30), np.uint16)
    return "png", _bytes(Image.fromarray(grey), "png")


def _other_extension(draw: random.Random) -> tuple[str, bytes]:
    kind, content = _any(draw)
    return draw.choice([name for name in _FORMATS if name != kind]), content


def _one_pixel(draw: random.Random) -> tuple[str, bytes]:
    kind = draw.choice(list(_FORMATS))
    return kind, _bytes(_picture(draw, 1, 1), kind)


def _long(draw: random.Random) -> tuple[str, bytes]:
    kind = draw.choice(["jpg", "png"])
    size = draw.choice([(20_000, 1), (1, 20_000)])
    return kind, _bytes(_picture(draw, *size), kind)


KINDS: dict[str, tuple[str, Callable[[random.Random], tuple[str, bytes]]]] = {
    "truncated": (_BAD, _truncated),
    "bits flipped": (_EITHER, _flipped),
    "two files spliced": (_EITHER, _spliced),
    "empty": (_BAD, lambda draw: (draw.choice(list(_FORMATS)), b"")),
    "all zeros": (_BAD, lambda draw: ("jpg", bytes(draw.randint(1, 4096)))),
    "noise": (_BAD, lambda draw: ("png", draw.randbytes(draw.randint(1, 4096)))),
    "text": (_BAD, lambda draw: ("jpg", b"<html>404 not found</html>" * draw.randint(1, 9))),
    "header only": (_BAD, _header),
    "bomb by declared size": (_BAD, _bomb),
    "other extension": (_GOOD, _other_extension),
    "animated GIF": (_GOOD, _animated),
    "1 x 1": (_GOOD, _one_pixel),
    "20000 x 1": (_GOOD, _long),
    "CMYK JPEG": (_GOOD, lambda draw: ("jpg", _bytes(_picture(draw).convert("CMYK"), "jpg"))),
    "16-bit PNG": (_GOOD, _sixteen_bit),
    "EXIF rotation": (_GOOD, _rotated),
}


def measure(workdir: str, *, files: int, seed: int) -> dict[str, Any]:
    """Writes so many files, has them read, and counts what went wrong.

    Returns:
        "files", "kinds", "crashes", "hangs", "wrong_counts" and, for each kind, how many
        files were read and how many were refused.
    """
    root = pathlib.Path(workdir)
    shutil.rmtree(root, ignore_errors=True)
    draw = random.Random(seed)
    names = list(KINDS)
    crashes, hangs, wrong = 0, 0, []
    table: dict[str, collections.Counter] = {name: collections.Counter() for name in names}
    for start in range(0, files, _BATCH):
        folder = root / f"{start:06d}"
        folder.mkdir(parents=True)
        kinds = {}
        for number in range(start, min(start + _BATCH, files)):
            kind = names[number % len(names)]
            extension, content = KINDS[kind][1](draw)
            path = folder / f"{number:06d}.{extension}"
            path.write_bytes(content)
            kinds[str(path)] = kind
        answer = root / f"{start:06d}.json"
        end = child.call(
            functools.partial(_answer, folder, answer),
            root / f"{start:06d}.log",
            kill=lambda seconds: seconds > _SECONDS,
        )
        if end.status == -9 and end.seconds >= _SECONDS:
            hangs += 1
        elif end.status != 0:
            crashes += 1
            print(end.output[-2000:])
        else:
            wrong += _judge(kinds, json.loads(answer.read_text()), table)
        print(f"{min(start + _BATCH, files)} files: {crashes} crashes, {hangs} hangs", flush=True)
    return {
        "files": files,
        "kinds": len(names),
        "crashes": crashes,
        "hangs": hangs,
        "wrong_counts": len(wrong),
        "wrong": wrong[:20],
        "by_kind": {name: dict(sorted(counts.items())) for name, counts in table.items()},
    }


def _judge(
    kinds: dict[str, str], answer: dict[str, Any], table: dict[str, collections.Counter]
) -> list[str]:
    """What the run said of each file, against what is known of it."""
    refused, read = set(answer["unreadable"]), set(answer["read"])
    wrong = [f"{path}: lost while training" for path in answer["lost"]]
    for path, kind in kinds.items():
        table[kind]["refused" if path in refused else "read"] += 1
        if (path in refused) == (path in read):
            wrong.append(f"{path} ({kind}): neither or both of refused and read")
        elif KINDS[kind][0] != _EITHER and (path in refused) != (KINDS[kind][0] == _BAD):
            wrong.append(f"{path} ({kind}): {'refused' if path in refused else 'read'}")
    return wrong


def _answer(folder: pathlib.Path, path: pathlib.Path) -> None:
    path.write_text(json.dumps(_read(folder)))


def _read(folder: pathlib.Path) -> dict[str, list[str]]:
    """Scans a folder, then trains on it for one epoch and embeds it, without the networks."""
    source, *_ = open_folder("folder", str(folder), ".")
    scan(source, max_corrupt_share=1.0, cache_megabytes=0)
    batches = train_batches.training_batches(
        source, augmentation=recipes.recipe("moco_v2"), image_size=16, batch_size=4, seed=0
    )
    steps = train_batches.steps_per_epoch(source, 4)
    for batch in batches.take(steps):
        assert batch["images"].shape == (4, 2, 16, 16, 3)
    embedded = []
    for batch in eval_batches.ordered_batches(source, image_size=16, batch_size=4):
        embedded += [int(index) for index in batch["index"] if index >= 0]
    return {
        "unreadable": [bad.name for bad in source.unreadable],
        "lost": [bad.name for bad in source.lost.values()],
        "read": [source.describe(index) for index in embedded],
    }
