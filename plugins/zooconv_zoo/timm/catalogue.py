"""The tables of this folder, written from the timm that is installed: `make catalogue`.

    models.tsv.gz           every pretrained tag: repository, size, input, normalisation, licence
    architectures.txt.gz    every architecture: what features_only makes of it, and every tensor's name and shape

Whoever converts needs neither timm nor torch for them. `--check` compares the first with the timm that is installed,
which takes a second; the second is built anew by `zooconv.testing.prove_timm`.
"""

from __future__ import annotations

import gzip
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from zooconv import import_package

from .architectures import renamed
from .tree import CLASSIFIER, COUNTER, FLOAT, KEPT, UNUSED, WHOLE, Row, write

MODELS = Path(__file__).with_name("models.tsv.gz")
ARCHITECTURES = Path(__file__).with_name("architectures.txt.gz")
COLUMNS = ("name", "variant", "repo", "mb", "input", "pixels", "license", "note")
PIXELS = {
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)): "imagenet",
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)): "half",
    ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)): "clip",
    ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)): "none",
    ((0.48627450980392156, 0.4588235294117647, 0.40784313725490196), (0.23482446870963955,) * 3): "dpn",
    ((0.43, 0.411, 0.296), (0.213, 0.156, 0.143)): "sat493m",
}


class Features(NamedTuple):
    """What `features_only` makes of an architecture: how it names tensors, its features, and every tensor's fate.

    `indices` are the features that it has when it is not asked for some, of all that it could have; `image` is the
    height and width of the images that its first tag was trained on.
    """

    wrap: str
    indices: tuple[int, ...]
    strides: tuple[int, ...]
    channels: tuple[int, ...]
    image: tuple[int, ...]
    rows: tuple[Row, ...]


def tags(timm: Any) -> list[str]:
    """Every pretrained tag, such as `resnet50.a1_in1k`."""
    return list(timm.list_models(pretrained=True))


def facts(timm: Any, tag: str) -> dict[str, str]:
    """A tag's row, without its size."""
    cfg = timm.get_pretrained_cfg(tag)
    _, height, width = cfg.input_size
    notes = [f"trained on images of {height} x {width}, height and width"] if height != width else []
    if not cfg.hf_hub_id:
        notes.append(f"timm has no copy of it on the hub; it is at {cfg.url}")
    return {"name": tag, "variant": tag.partition(".")[0], "repo": cfg.hf_hub_id or "", "input": str(height),
            "pixels": PIXELS[tuple(cfg.mean), tuple(cfg.std)], "license": cfg.license or "unknown",
            "note": "; ".join(notes)}


def full(timm: Any, tag: str) -> dict[str, Row]:
    """The tensors of a tag's whole model, by name."""
    import torch

    with torch.device("meta"):
        state = timm.create_model(tag).state_dict()
    return {name: Row(name, tuple(t.shape), _kind(name, t)) for name, t in state.items()}


def features(timm: Any, architecture: str, whole: Mapping[str, Row]) -> Features:
    """What `features_only` makes of an architecture whose tensors are `whole`, classifiers of all its tags included."""
    import torch

    with torch.device("meta"), _watching(timm) as seen:
        model = timm.create_model(architecture, features_only=True)
    names = _origins(model.state_dict(keep_vars=True), seen)
    cfg = timm.get_pretrained_cfg(architecture)
    heads = cfg.classifier or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    rows = []
    for row in whole.values():
        under = any(f"{row.name}.".startswith(f"{head}.") for head in heads)
        rows.append(row._replace(fate=KEPT if row.name in names else CLASSIFIER if under else UNUSED))
    info = model.feature_info
    return Features(_wrap(names), tuple(info.out_indices), tuple(info.reduction()), tuple(info.channels()),
                    cfg.input_size[1:], tuple(rows))


@contextmanager
def _watching(timm: Any) -> Iterator[dict[int, list[str]]]:
    """See which tensors of the whole model a wrapper was given: the names of each, by its identity."""
    from timm.models import _features

    seen: dict[int, list[str]] = {}
    kept: list[Any] = []  # so that no identity is used twice
    wrappers: list[Any] = [_features.FeatureDictNet, _features.FeatureHookNet, _features.FeatureGetterNet]
    inits = [wrapper.__init__ for wrapper in wrappers]

    def watched(init: Any) -> Any:
        def wrapped(self: Any, model: Any, *args: Any, **more: Any) -> None:
            for name, tensor in model.state_dict(keep_vars=True).items():
                seen.setdefault(id(tensor), []).append(name)
                kept.append(tensor)
            init(self, model, *args, **more)
        return wrapped

    try:
        for wrapper, init in zip(wrappers, inits, strict=True):
            wrapper.__init__ = watched(init)
        yield seen
    finally:
        for wrapper, init in zip(wrappers, inits, strict=True):
            wrapper.__init__ = init


def _origins(state: Mapping[str, Any], seen: Mapping[int, list[str]]) -> dict[str, str]:
    """The whole model's name of each tensor, with the one that the features have for it.

    A module that is shared has several names, each of which stays itself but for what the wrapper does to all.
    """
    names: dict[str, str] = {}
    for name, tensor in state.items():
        same = seen.get(id(tensor), [name])
        flat = name.replace("_", ".")
        names[next((n for n in same if flat.endswith(n.replace("_", "."))), same[0])] = name
    if len(names) != len(state):
        raise ValueError("two tensors of the features are one of the whole model")
    return names


def _wrap(names: Mapping[str, str]) -> str:
    """How the features name tensors: `+prefix`, or `_a,b`, whose children are joined to them by an underscore."""
    (name, other), = list(names.items())[:1]
    if other != name and other.endswith(f".{name}"):
        prefix = other.removesuffix(name)
        wrap = f"+{prefix}"
    else:
        wrap = "_" + ",".join(dict.fromkeys(n.split(".")[0] for n, o in names.items() if n != o))
    for name, other in names.items():
        if renamed(wrap, name) != other:
            raise ValueError(f"{name} is {other}, and nothing here says why")
    return wrap


def _kind(name: str, tensor: Any) -> str:
    if tensor.dtype.is_floating_point:
        return FLOAT
    return COUNTER if name.endswith("num_batches_tracked") else WHOLE


def _size(rows: Iterable[Row]) -> int:
    return sum(math.prod(row.shape) * (4 if row.kind == FLOAT else 8) for row in rows)


def made(timm: Any) -> tuple[str, str]:
    """Both tables as texts: every model is built once, without values."""
    models = ["\t".join(COLUMNS)]
    wholes: dict[str, dict[str, Row]] = {}
    sizes: dict[tuple[str, int], int] = {}
    for tag in tags(timm):
        row, cfg = facts(timm, tag), timm.get_pretrained_cfg(tag)
        key = (row["variant"], cfg.num_classes)
        if key not in sizes:
            rows = full(timm, tag)
            sizes[key] = _size(rows.values())
            wholes[key[0]] = rows | wholes.get(key[0], {})
        row["mb"] = str(round(sizes[key] / 1e6))
        models.append("\t".join(row[column] for column in COLUMNS))
    alike: dict[tuple[str, str], list[str]] = {}
    found: dict[str, Features] = {}
    for name, whole in wholes.items():
        this = found[name] = features(timm, name, whole)
        kept = [row for row in this.rows if row.fate == KEPT]
        alike.setdefault((this.wrap, write(kept)), []).append(name)
        print(f"\r{len(found)} of {len(wholes)} architectures", end="", file=sys.stderr)
    classes = list(alike.values())
    return "\n".join(models) + "\n", "\n".join(lines(classes, found)) + "\n"


def lines(classes: list[list[str]], found: Mapping[str, Features]) -> Iterator[str]:
    """A line for each set of architectures that keep the very same tensors."""
    often = Counter(pair for names in classes for pair in _probes(found[names[0]]))
    for names in classes:
        first = found[names[0]]
        rare = sorted(_probes(first), key=lambda pair: (often[pair], -len(pair[0]), pair[0]))[:2]
        union = {row.name: row for name in names for row in found[name].rows}  # their classifiers may differ
        yield "\t".join([
            " ".join(names), first.wrap,
            *(",".join(map(str, numbers)) for numbers in (first.indices, first.strides, first.channels, first.image)),
            " ".join(f"{name}:{','.join(map(str, shape))}" for name, shape in rare), write(_walk(union.values()))])


def _probes(one: Features) -> set[tuple[str, tuple[int, ...]]]:
    """The tensors that an architecture could be found by."""
    return {(row.name, row.shape) for row in one.rows if row.fate == KEPT and row.kind == FLOAT}


def _walk(rows: Iterable[Row]) -> Iterator[Row]:
    """In the order of a walk through the modules: tensors that other tags have, beside their sisters."""
    order: dict[str, Any] = {}
    for row in rows:
        *path, last = row.name.split(".")
        node = order
        for part in path:
            node = node.setdefault(part, {})
        node[last] = row

    def leaves(node: dict[str, Any]) -> Iterator[Row]:
        for child in node.values():
            if isinstance(child, Row):
                yield child
            else:
                yield from leaves(child)

    return leaves(order)


def stale(timm: Any) -> list[str]:
    """What the table of models says otherwise than the timm that is installed."""
    header, *rows = gzip.decompress(MODELS.read_bytes()).decode().splitlines()
    known = {row.split("\t")[0]: dict(zip(header.split("\t"), row.split("\t"), strict=True)) for row in rows}
    now = {tag: facts(timm, tag) for tag in tags(timm)}
    return sorted(tag for tag in known | now if tag not in known or tag not in now
                  or {**now[tag], "mb": known[tag]["mb"]} != known[tag])


def main() -> int:
    """Write both tables, or with `--check` say whether they are fresh."""
    timm = import_package("timm")
    if "--check" in sys.argv[1:]:
        if wrong := stale(timm):
            print(f"{len(wrong)} models are not as timm {timm.__version__} has them: {', '.join(wrong[:8])}\n"
                  "run: make catalogue", file=sys.stderr)
        return 1 if wrong else 0
    for path, text in zip((MODELS, ARCHITECTURES), made(timm), strict=True):
        path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
        print(f"{path}: {len(text.splitlines())} lines, {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
