"""What every family must satisfy, ours or a stranger's: `assert_family(FAMILY)` in a plugin's test.

    from my_zoo import FAMILY
    from zooconv.testing import assert_family

    def test_my_family():
        assert_family(FAMILY)

Weights are random, upstreams are the real packages as far as they are installed, files are written and converted on the
real road. What cannot be checked here is said, not passed over.

PYTEST_DONT_REWRITE: the messages of these assertions are written for the authors of families, and are complete.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from zooconv.checkpoint.open import open_checkpoint
from zooconv.errors import UsageError, ZooError
from zooconv.mapping.dialect import Dialect
from zooconv.mapping.expr import Expr, Leaf, stream
from zooconv.mapping.family import Family, Layout, Shapes
from zooconv.mapping.fit import fit
from zooconv.mapping.rules import Rule
from zooconv.modules import without_values
from zooconv.names import local
from zooconv.options import Options
from zooconv.parity import parity
from zooconv.pipeline import run
from zooconv.plugins import families
from zooconv.recognise import recognise
from zooconv.subject import read_layout
from zooconv.tensor import TensorSpec, shape_text
from zooconv.testing.back import returns
from zooconv.testing.checkpoints import dtype_of, lively_weights, save_safetensors, spelled
from zooconv.testing.prove import prove
from zooconv.testing.roads import roads, toy
from zooconv.upstream import code, installed, upstream
from zooconv.zoo import tables

IMPORT_BUDGET = 0.15  # seconds, for importing the module and calling the hook; a second's wait is a family too many
MOST = 100  # wrong conversions of one family against one upstream, drawn at random; `make prove` tries all


class NotChecked(Exception):
    """A check that cannot be made here, and why."""


@dataclass(frozen=True)
class Check:
    """One thing that must hold: a sentence, and what raises AssertionError where it does not."""

    title: str
    run: Callable[[], None]


@dataclass(frozen=True)
class Outcome:
    """What came of a check: `ok`, `failed` or `not checked`, and why."""

    title: str
    status: str
    why: str = ""


def assert_family(family: Family[Any]) -> list[Outcome]:
    """Run every check. Raises AssertionError, with all that do not hold, where any does not."""
    outcomes = REPORTS[family.title] = []
    for check in checks(family):
        outcomes.append(_outcome(check))
        print(f"{outcomes[-1].status:<12}{check.title}", flush=True)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed:
        raise AssertionError(f"{family.title}: {len(failed)} of {len(outcomes)} checks failed\n"
                             + "\n".join(f"- {o.title}\n    " + o.why.replace("\n", "\n    ") for o in failed))
    return outcomes


REPORTS: dict[str, list[Outcome]] = {}
"""What `assert_family` found, by family, for the summary of the pytest plugin."""


def _outcome(check: Check) -> Outcome:
    try:
        check.run()
    except NotChecked as error:
        return Outcome(check.title, "not checked", str(error))
    except (AssertionError, ZooError) as error:
        return Outcome(check.title, "failed", str(error))
    except Exception as error:  # noqa: BLE001 - a family's code may raise anything, and the other checks go on
        return Outcome(check.title, "failed", f"{type(error).__name__}: {error}")
    return Outcome(check.title, "ok")


def checks(family: Family[Any]) -> Iterator[Check]:
    """Every check of a family, from the cheapest to the dearest."""
    def check(title: str, function: Callable[..., None], *args: Any) -> Check:
        return Check(title, partial(function, family, *args))

    yield check("importing it costs little, and neither torch nor numpy", importing)
    yield check("it is found as a plugin, under names of its own", naming)
    for name, config in members(family).items():
        yield check(f"{name}: names are distinct, and its config is read back from them", table, config)
    for dialect in family.dialects:
        yield check(f"dialect {dialect.name}: every rule can be undone", invertible, dialect)
        yield check(f"dialect {dialect.name}: holds a whole member, and is recognised as itself", recognised, dialect)
    for layout in family.layouts:
        yield check(f"layout {layout.name}: every rule can be undone", invertible, layout.body, layout)
    for dialect in family.dialects:
        yield check(f"dialect {dialect.name}: converted on the whole road, nothing is lost", road, dialect)
    for dialect in (d for d in family.dialects if family.layout(d.name) is None):  # else the layout is meant
        yield check(f"dialect {dialect.name}: comes back from a layout as it was, byte for byte", back_again, dialect)
    yield check("models have a variant and a licence", models)
    yield check("the reference module has the tensors of the table, in its order", reference)
    for layout in family.layouts:
        if layout.changes:
            yield check(f"layout {layout.name}: changed as it says, it computes what an upstream does", changed, layout)
    for name in family.upstreams or ["an upstream"]:
        yield check(f"computes what {name} computes, and wrong conversions are caught", proved, name)


def members(family: Family[Any]) -> dict[str, Any]:
    """The known configs, the toy among them."""
    return {**({"toy": family.toy} if family.toy is not None else {}), **family.variants}


# -- the checks ------------------------------------------------------------------------------------------------------


def importing(family: Family[Any]) -> None:
    """A new process imports the module and calls its hook, beside one that imports what zooconv itself needs."""
    module = sys.modules.get(getattr(family.tensors, "__module__", ""))
    if module is None or module.__name__ == "__main__":
        raise NotChecked("the module that defines it cannot be imported by name")
    script = ("import sys, time; import zooconv.mapping.family, zooconv.hookspecs, zooconv.mapping.ops\n"
              f"start = time.perf_counter(); import {module.__name__}; took = time.perf_counter() - start\n"
              "import json; print(json.dumps([took, sorted({'torch', 'numpy'} & set(sys.modules))]))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False,  # noqa: S603
                          env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    assert done.returncode == 0, done.stderr.strip().splitlines()[-1]
    took, heavy = json.loads(done.stdout)
    assert not heavy, f"importing {module.__name__} imports {' and '.join(heavy)}; import them inside functions"
    assert took < IMPORT_BUDGET, f"importing {module.__name__} takes {took:.2f} s; it may take {IMPORT_BUDGET} s"


def naming(family: Family[Any]) -> None:
    """Its name, and those of its dialects, layouts and variants, are words that a command line and a file can spell."""
    names = [family.name, *(d.name for d in family.dialects), *family.layout_names, *family.variants]
    odd = [name for name in names if not name or set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789._-")]
    assert not odd, f"not names: {odd}; use lower-case letters, digits and . _ -"
    for kind, given in (("dialects", [d.name for d in family.dialects]), ("layouts", family.layout_names)):
        assert len(set(given)) == len(given), f"two {kind} have one name: {sorted(given)}"
    assert family.dialects, "it has no dialect, so no file can be recognised"
    assert family.layouts, "it has no layout, so nothing can be written"
    here = [f for f in families() if f.name == family.name]
    assert here, "it is not installed as a plugin: pip install -e .  (then: zooconv plugins)"
    assert here == [family], f"another plugin has a family {family.name!r}"


def table(family: Family[Any], config: Any) -> None:
    """`tensors` names each tensor once, and `infer` reads the config off them."""
    specs = list(family.tensors(config))
    names = [spec.name for spec in specs]
    twice = sorted({name for name in names if names.count(name) > 1})
    assert not twice, f"tensors() names {twice[0]} twice"
    found = family.infer(Shapes({spec.name: spec.shape for spec in specs}))
    assert found == config, f"infer() reads {found}, of {config}"


def invertible(family: Family[Any], dialect: Dialect, layout: Layout | None = None) -> None:
    """Canonical names -> the dialect's -> canonical ones gives every tensor back, and no two become one."""
    config = layout.after(toy(family)) if layout else toy(family, dialect)
    whole = {spec.name: Leaf(spec.shape, spec.dtype, spec.name) for spec in family.tensors(config)
             if not (layout and layout.omits(spec.name))}
    there = dialect.from_canonical(whole)
    for name, sources in there.clashes.items():
        first = next(f.taken for f in there.fired if name in f.made)
        raise AssertionError(f"{' + '.join(first)} and {' + '.join(sources)} both become {name}")
    lost = [name for name in there.unmatched if not dialect.lacking(name)]
    assert not lost, f"no rule has {lost[0]} on its right side" + (f", nor {len(lost) - 1} more" if lost[1:] else "")
    assert not there.misshapen, "; ".join(f"{name}: {why}" for name, why in there.misshapen.items())
    here = dialect.to_canonical(there.made)
    for name, leaf in whole.items():
        if dialect.lacking(name):
            continue
        back = here.made.get(name)
        same = back is not None and stream(back) is not None and str(stream(back)) == name and back.shape == leaf.shape
        assert same, _not_back(dialect, name, back, [n for f in there.fired if name in f.taken for n in f.made])


def _not_back(dialect: Dialect, name: str, back: Expr | None, spelled: list[str]) -> str:
    """What became of a canonical tensor that does not come back, and by which rules."""
    away = next((rule for rule in dialect.rules if isinstance(rule, Rule)
                 and any(t.match(name) is not None for t in rule.targets)), None)
    home = next((rule for rule in dialect.rules for t in (rule.sources if isinstance(rule, Rule) else [rule.source])
                 if spelled and dialect.in_files(t).match(spelled[0]) is not None), None)
    told = f"{name} becomes {' + '.join(spelled)} by the rule {away}"
    return told + (f", and comes back as {back}" if home is away else f", which the rule {home} above it takes")


def recognised(family: Family[Any], dialect: Dialect) -> None:
    """A file in this dialect fits it exactly, and no family reads it in another way."""
    weights = lively_weights(family, toy(family, dialect))
    for prefix in ("", "module."):
        specs = {n: TensorSpec(n, a.shape, dtype_of(a)) for n, a in spelled(dialect, weights, prefix).items()}
        mine = fit(family, dialect, specs, prefix)
        assert mine.exact, "\n".join(map(str, mine.problems[:10]))
        everyone = [family, *(f for f in families() if f.name != family.name)]
        found = recognise(specs, everyone, what=f"a file in {dialect.name} names")
        assert found.family is family, f"it is taken for a {found.family.title}"
        assert found.canonical == mine.canonical, f"it is read as {found.dialect.name}, and then means something else"


def road(family: Family[Any], dialect: Dialect) -> None:
    """A file of this dialect becomes each layout, and its certificate, checked again from the files, holds."""
    with tempfile.TemporaryDirectory() as folder:
        walked = list(roads(family, dialect, Path(folder)))
    for one in walked:
        assert one.status != "failed", f"layout {one.layout}: {one.why}"
    assert any(one.status != "refused" for one in walked), "no layout can be made of it"


def back_again(family: Family[Any], dialect: Dialect) -> None:
    """A file of this dialect, made a layout's and then its own again: alone, and filled from the original."""
    reasons = []
    with tempfile.TemporaryDirectory() as folder:
        for one in returns(family, dialect, Path(folder)):
            if one.why:
                reasons.append(f"layout {one.layout}: {one.why}")
                continue
            assert not one.faults, f"layout {one.layout}: " + "\n".join(one.faults[:10])
            return
    raise NotChecked(reasons[0] if reasons else "there is no layout")


def models(family: Family[Any]) -> None:
    """Each of its models says what it is and under which licence, and no name stands twice."""
    rows = [model for table in tables() if table.family == family.name for model in table.models]
    if not rows:
        raise NotChecked("it has no zoo.toml")
    names = [name for model in rows for name in model.names]
    twice = sorted({name for name in names if names.count(name) > 1})
    assert not twice, f"two models answer to {twice[0]}"
    for model in rows:
        assert model.license, f"{model.name} has no licence"
        assert model.variant in family.variants, f"{model.name}: there is no variant {model.variant!r}"


def reference(family: Family[Any]) -> None:
    """The module that `backbone` builds is the table, as a module."""
    if not family.backbone:
        raise NotChecked("it has no backbone")
    config = toy(family)
    with without_values():
        state = code(family.backbone)(config).state_dict()
    wanted = {spec.name: spec.shape for spec in family.tensors(config)}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()
             if tensor.is_floating_point() or name in wanted}  # counters and indices stay as the module was built
    odd = [f"{n}: {_shape(wanted, n)} in the table, {_shape(found, n)} in the module" for n in {**wanted, **found}
           if wanted.get(n) != found.get(n)]
    assert not odd, "\n".join(odd[:10])
    assert list(wanted) == list(found), "the table has them in another order than the module"


def _shape(shapes: dict[str, tuple[int, ...]], name: str) -> str:
    return shape_text(shapes[name]) if name in shapes else "absent"


def changed(family: Family[Any], layout: Layout) -> None:
    """An artifact of a layout that makes changes, held against the first upstream that can follow them."""
    reasons = ["there is no upstream here"]
    for against in installed(family):
        own = upstream(family, against).toy
        config = toy(family) if own is None else own
        if reason := layout.refusal(layout.after(config)):
            reasons.append(reason)
            continue
        dialect = next(d for d in family.dialects if d.name == upstream(family, against).spelling(config))
        try:
            with tempfile.TemporaryDirectory() as name:
                apart = _apart(family, config, dialect, layout, against, Path(name))
        except UsageError as error:
            reasons.append(": ".join([error.what, *error.why]))
            continue
        assert not apart, f"not the function of {against}: relative differences {', '.join(apart)}"
        return
    raise NotChecked(reasons[-1])


def _apart(family: Family[Any], config: Any, dialect: Dialect, layout: Layout, against: str, folder: Path) -> list[str]:
    path = save_safetensors(folder / "source.safetensors", spelled(dialect, lively_weights(family, config)))
    done = run(local(path), Options(output=folder / "artifact.pth", layout=layout.name, load_check=False, report=False,
                                    registry=folder / "registry.json"))
    with open_checkpoint(path) as source, open_checkpoint(done.path) as artifact:
        ours = read_layout(artifact, family, layout)
        found = parity(source, done.preview.found, artifact, ours, against)
    return [f"{d.output}: {d.relative:.1e}" for d in found.apart]


def proved(family: Family[Any], against: str) -> None:
    """Forward parity with an upstream, its certificate, and the score of wrong conversions."""
    if not family.backbone:
        raise NotChecked("it has no backbone")
    if against not in family.upstreams:
        raise NotChecked("it names no upstream to hold it against")
    other = upstream(family, against)
    if against not in installed(family):
        raise NotChecked(f"{other.package} is not installed")
    config = toy(family) if other.toy is None else other.toy
    with tempfile.TemporaryDirectory() as folder:
        found, faults, score = prove(family, config, against, Path(folder), most=MOST)
    assert not faults, f"certificate: {faults[0]}"
    apart = [f"{d.output}: {d.relative:.1e}" for d in found.apart]
    assert not apart, f"not the same function: relative differences {', '.join(apart)}"
    assert not score.survivors, score.text
