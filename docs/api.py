"""Writes docs/api.md from the docstrings: `python -m docs.api` (make docs). A test compares the two."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import accord
from accord.core.messages import Frozen
from accord.judges.ask import Judge
from accord.judges.thresholds import Thresholds
from accord.lm.model.lora import Lora
from accord.lm.sampler import Sampling
from accord.rewards.compose import Common
from accord.train.loop.data import Limits
from accord.train.loop.optimise import Optimise
from accord.train.online.methods.best_of_n import BestOfN
from accord.train.online.methods.grpo import Grpo
from accord.train.online.methods.online_dpo import OnlineDpo
from accord.train.online.methods.ppo import Ppo
from accord.train.online.methods.rloo import Rloo
from accord.train.settings import Kl, MissingEos, OnPolicy

PAGE = Path(__file__).parent / "api.md"
HEAD = """\
# Python

What `import accord` gives, from the docstrings (`make docs` writes this page). Everything is typed; a wrong
argument is an `AccordError` of one line that says what is allowed. The [quickstart](quickstart.md) shows it
in use.
"""
PARTS = {
    "Models": "load LanguageModel export_model Lora",
    "Judgments": "Store import_file export opened_snapshot Snapshot data_card",
    "Judges": "judge check_judge",
    "Training": (
        "train_sft train_reward train_preference train_process train_axes train_policy Trained PolicyTrained"
    ),
    "Scoring and evaluation": (
        "load_reward_model RewardModel load_axes_model load_process_model score evaluate Evaluation "
        "run_evals EvalReport"
    ),
    "Recipes": "run Run Finished",
    "Types": (
        "Message Prompt Response Exchange Pair Group Demonstration LabelledResponse LabelledSteps Metric"
    ),
    "Registries": (
        "preference_loss unpaired_loss ranking_loss reward_loss reward preference_losses unpaired_losses "
        "ranking_losses reward_losses reward_registry"
    ),
    "Errors": (
        "AccordError ConfigError Faults DataError TemplateError StoreError ModelError RunError"
    ),
}
SETTINGS: tuple[type[BaseModel], ...] = (
    Optimise, Limits, Lora, Sampling, OnPolicy, Ppo, Rloo, Grpo, OnlineDpo, BestOfN, Kl, MissingEos, Common,
    Judge, Thresholds,
)  # fmt: skip
TITLES = {Common: "Common keys of a reward"}
OF_REGISTRIES = (
    "Decorators register a function under a name; its keyword-only arguments are its keys in a recipe "
    "([extending](extending.md)). `names()` of a registry lists what there is.\n"
)


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for title, names in PARTS.items():
        lines.append(f"## {title}\n")
        if title == "Registries":
            lines += [OF_REGISTRIES, "".join(f"`{n}` " for n in names.split()).strip() + "\n"]
            continue
        for name in names.split():
            lines += _entry(name, getattr(accord, name))
    lines.append("## Settings\n")
    for settings in SETTINGS:
        lines += _settings(settings)
    return "\n".join(lines).rstrip() + "\n"


def _entry(name: str, thing: Any) -> Iterator[str]:
    if not inspect.isclass(thing):
        yield _block(f"accord.{name}", thing)
        yield from _doc(thing)
        return
    yield f"### accord.{name}\n"
    yield from _doc(thing)
    if issubclass(thing, BaseModel):
        yield from _table(thing)
    for member, value in inspect.getmembers_static(thing):
        described = inspect.unwrap(getattr(value, "fget", None) or getattr(value, "func", value))
        function = inspect.isfunction(value)
        own = (getattr(described, "__module__", "") or "").startswith("accord.")
        inherited = any(
            member in vars(base) for base in (Frozen, accord.AccordError) if base is not thing
        )
        if (
            member.startswith("_")
            or inherited
            or not own
            or not getattr(described, "__doc__", None)
        ):
            continue
        if not function and not isinstance(value, property | classmethod) and described is value:
            continue
        yield _block(member, value if function else None)
        yield from _doc(described)


def _block(name: str, function: Any = None) -> str:
    """A signature as it is written, an argument a line where it is long."""
    if function is None:
        return f"```text\n{name}\n```\n"
    signature = inspect.signature(function)
    shown: list[str] = []
    for p in signature.parameters.values():
        if p.name == "self":
            continue
        if p.kind is p.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        stars = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        default = "" if p.default is p.empty else f" = {p.default!r}"
        shown.append(f"{stars}{p.name}: {p.annotation}{default}")
    end = f") -> {signature.return_annotation}"
    line = f"{name}({', '.join(shown)}{end}"
    if len(line) > 100:
        line = f"{name}(\n" + "".join(f"    {x},\n" for x in shown) + end
    return f"```text\n{line}\n```\n"


def _doc(thing: Any) -> Iterator[str]:
    """A docstring; what is indented under Args and the like becomes a list."""
    doc = inspect.cleandoc(thing.__doc__ or "")
    for part in re.split(r"\n\n(?=(?:Args|Returns|Raises):\n)", doc):
        head, _, rest = part.partition("\n")
        if head not in ("Args:", "Returns:", "Raises:"):
            yield part + "\n"
            continue
        body = textwrap.dedent(rest)
        if head != "Returns:":
            body = re.sub(r"^(\w+):", r"- `\1`:", body, flags=re.MULTILINE)
            body = re.sub(r"\n +", "\n  ", body)
        yield f"**{head[:-1]}**\n\n{body}\n"


def _settings(model: type[BaseModel]) -> Iterator[str]:
    yield f"### {TITLES.get(model, model.__name__)}\n"
    yield " ".join(inspect.cleandoc(model.__doc__ or "").split()) + "\n"
    yield from _table(model)


def _table(model: type[BaseModel]) -> Iterator[str]:
    """Keys that the class itself declares, with types, defaults, ranges and what is said of them."""
    fields = _described_fields(model)
    if not fields:
        return
    rows = ["| key | type | default | |", "|---|---|---|---|"]
    for name, (kind, text) in fields.items():
        field = model.model_fields[name]
        default = "required" if field.is_required() else f"`{_value(field)}`"
        rows.append(f"| `{name}` | `{kind}` | {default} | {text} |".replace("  ", " "))
    yield "\n".join(rows) + "\n"


def _value(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    return "defaults" if isinstance(value, BaseModel) else repr(value).replace("|", "\\|")


def _described_fields(model: type[BaseModel]) -> dict[str, tuple[str, str]]:
    """Of each field declared in the class: its type as written, and its docstring or trailing comment."""
    source = textwrap.dedent(inspect.getsource(model))
    lines = source.splitlines()
    body = ast.parse(source).body[0].body  # type: ignore[attr-defined]
    fields: dict[str, tuple[str, str]] = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        text = lines[node.end_lineno - 1].partition("  # ")[2].partition("  # ")[0]
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = " ".join(str(after.value.value).split())
        kind = ast.unparse(node.annotation).replace("|", "\\|").replace("'", '"')
        if node.target.id in model.model_fields:
            fields[node.target.id] = (kind, text.replace("|", "\\|"))
    return fields


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
