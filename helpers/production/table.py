"""All facts in one table, by name, and how chapters print them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from helpers.display.tables import Table
from helpers.production.ascend_options import GRAPHS, SCHEDULERS
from helpers.production.option import Option
from helpers.production.sharing_options import SHARING
from helpers.production.variables import VARIABLES
from helpers.production.vllm_options import MEMORY, PASSES, PREFIXES, REPLICAS, SCHEDULING


def collect(rows: Iterable[Option]) -> dict[str, Option]:
    """Return rows by name; raise ValueError for a name that comes twice."""
    found: dict[str, Option] = {}
    for row in rows:
        if row.name in found:
            raise ValueError(f"{row.name} is in the table twice")
        found[row.name] = row
    return found


OPTIONS = collect(
    (*MEMORY, *PREFIXES, *SCHEDULING, *PASSES, *SHARING, *REPLICAS, *SCHEDULERS, *GRAPHS, *VARIABLES)
)


def option(name: str) -> Option:
    """Return the fact of that name, a key also without its group; raise ValueError for an unknown name."""
    found = OPTIONS.get(name) or OPTIONS.get(f"scheduler_config.{name}")
    if found is None:
        raise ValueError(f"{name!r} is not in the table of production options")
    return found


def against(names: Iterable[str]) -> str:
    """Return in one sentence the versions in which these options were read, and the day.

    Raises ValueError for an unknown name.
    """
    sources = [source for name in names for source in option(name).sources]
    versions: dict[str, list[str]] = {}
    for source in sources:
        known = versions.setdefault(source.project, [])
        known += [] if source.version in known else [source.version]
    listed = "; ".join(f"{project} {', '.join(sorted(found))}" for project, found in sorted(versions.items()))
    return f"Read on {max(source.read for source in sources)} in {listed}."


def options_table(rows: Mapping[str, str]) -> Table:
    """Return options beside the reader's words for them, with default, versions, and what NPUs do differently.

    `rows` maps an option's name to what a chapter calls it. Raises ValueError for an unknown name.
    """
    cells = []
    for name, here in rows.items():
        fact = option(name)
        default = f"{fact.default}; on Ascend {fact.on_ascend}" if fact.on_ascend else fact.default
        cells.append((fact.name, here, default, fact.versions))
    return Table(("option", "in this chapter", "default", "versions"), cells, caption=against(rows))


def reference() -> str:
    """Return all facts as a table in Markdown, one row for each option, with sources."""
    lines = ["| option | sets | default | versions | read in |", "|---|---|---|---|---|"]
    for fact in OPTIONS.values():
        default = f"{fact.default}; on Ascend: {fact.on_ascend}" if fact.on_ascend else fact.default
        read = "; ".join(str(source) for source in fact.sources)
        lines.append(f"| `{fact.name}` | {fact.sets} | {default} | {fact.versions} | {read} |")
    return "\n".join(lines) + "\n"
