"""One HTML page about a dataset: complete in itself, without scripts, and safe whatever the names in the files are."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from e2eio.physics import Finding

__all__ = ["Page", "Picture", "make_page"]

# Nothing is fetched and no script runs, even if something slipped through the escaping.
_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE: Final = """\
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; overflow-wrap: anywhere } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; font-size: .9rem }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; vertical-align: top; overflow-wrap: anywhere }
th { border-bottom: 1px solid #999 } td { border-bottom: 1px solid #e4e4e4 }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
img { max-width: 100%; height: auto } figure { margin: 1rem 0 } figcaption { color: #555 }
.failure { color: #a00000; font-weight: bold } .warning { color: #8a5a00; font-weight: bold } .note { color: #555 }
code { overflow-wrap: anywhere } summary { cursor: pointer }"""

_FOLDED: Final = 12  # rows of a table, from where on it is folded


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with its title; `png` are the bytes of the file."""

    title: str
    png: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """What the page tells.

    Parameters
    ----------
    content : mapping
        What ``e2eio inspect --json`` prints.
    shards : sequence of tuple
        File, samples, bytes and digest of each.
    n_seen : int
        Samples that pictures and findings are of.
    findings : sequence of Finding
    pictures : sequence of Picture
    version : str
        Of e2eio.
    """

    content: Mapping[str, Any]
    shards: Sequence[tuple[str, int, int, str]]
    n_seen: int
    findings: Sequence[Finding] = ()
    pictures: Sequence[Picture] = field(default_factory=list)
    version: str = ""


def make_page(page: Page) -> str:
    """Return the page as HTML; every text in it is escaped."""
    title = f"e2eio: {page.content['path']}"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_text(page.content['path'])}</h1>",
        *_overview(page),
        *_findings(page),
        *_schema(page.content),
        *_pictures(page),
        *_provenance(page.content.get("provenance")),
        "<h2>Shards</h2>",
        _table(("file", "samples", "bytes", "digest"), page.shards),
        f"<p><small>e2eio {_text(page.version)}</small></p></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _text(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "-" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    return html.escape(str(value))


def _cell(value: object) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f'<td class="n">{_text(value)}</td>' if number else f"<td>{_text(value)}</td>"


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows]
    head = "".join(f"<th>{_text(name)}</th>" for name in header)
    table = f"<table><tr>{head}</tr>\n" + "\n".join(lines) + "</table>"
    if len(lines) <= _FOLDED:
        return table
    return f"<details><summary>{len(lines)} rows</summary>{table}</details>"


def _overview(page: Page) -> list[str]:
    content = page.content
    rows = [
        ("samples", content["n_samples"]),
        ("shards", content["n_shards"]),
        ("bytes", content["n_bytes"]),
        ("bytes a sample", round(content["bytes_per_sample"])),
        ("of dense float32 images", content["dense_bytes_per_sample"]),
        ("digest", content["digest"]),
    ]
    lines = "\n".join(f"<tr><td>{_text(name)}</td>{_cell(value)}</tr>" for name, value in rows)
    return [f"<table>{lines}</table>"]


def _findings(page: Page) -> list[str]:
    parts = ["<h2>Checks</h2>", f"<p>{_seen(page)}</p>"]
    if not page.findings:
        return [*parts, "<p>Nothing to report.</p>"]
    rows = "\n".join(
        f'<tr><td class="{finding.severity}">{finding.severity}</td><td>{_text(finding.check)}</td>'
        f"<td>{_text(finding.channel)}</td><td>{_text(finding.text)}<br>"
        f"<small>{_text(finding.advice)}</small></td>{_cell(finding.count)}"
        f"<td>{', '.join(map(str, finding.samples))}</td></tr>"
        for finding in page.findings
    )
    names = ("", "check", "channel", "found", "count", "samples, for example")
    head = "".join(f"<th>{name}</th>" for name in names)
    return [*parts, f"<table><tr>{head}</tr>\n{rows}</table>"]


def _seen(page: Page) -> str:
    total = page.content["n_samples"]
    if page.n_seen == total:
        return f"All {total:,} samples were looked at."
    return f"{page.n_seen:,} of {total:,} samples were looked at, from all over the dataset."


def _schema(content: Mapping[str, Any]) -> list[str]:
    image = content["schema"]["image"]
    shape = ", ".join(map(str, image["shape"]))
    channels = [
        (
            *(row["name"], row["unit"], f"{100 * row['occupancy']:.3f} %"),
            *(row["nonzero_per_sample"], row["nonfinite"], row["min"], row["max"]),
        )
        for row in content["channels"]
    ]
    scalars = [
        (row["name"], row["dtype"], row["unit"], row["min"], row["max"])
        for row in content["scalars"]
    ]
    parts = [
        "<h2>Schema and statistics</h2>",
        f"<p>image <code>{_text(image['name'])}</code>: {_text(image['precision'])} [{shape}]</p>",
        _table(("channel", "unit", "filled", "pixels", "not finite", "min", "max"), channels),
    ]
    if scalars:
        parts += ["<br>", _table(("scalar", "dtype", "unit", "min", "max"), scalars)]
    return parts


def _pictures(page: Page) -> list[str]:
    parts = ["<h2>Pictures</h2>"]
    for picture in page.pictures:
        source = base64.b64encode(picture.png).decode("ascii")
        parts.append(
            f'<figure><img src="data:image/png;base64,{source}" alt="{_text(picture.title)}">'
            f"<figcaption>{_text(picture.title)}</figcaption></figure>"
        )
    return parts


def _provenance(provenance: Mapping[str, Any] | None) -> list[str]:
    if provenance is None:
        return ["<h2>Provenance</h2>", "<p>A shard without dataset.json does not tell.</p>"]
    options = [(name, repr(value)) for name, value in sorted(provenance["options"].items())]
    sources = [
        (source["path"], source["n_samples"], source["n_bytes"]) for source in provenance["sources"]
    ]
    made = f"made by {_text(provenance['converter'])}, {_text(provenance['created'])}"
    return [
        *("<h2>Provenance</h2>", f"<p>{made}</p>"),
        _table(("source", "samples", "bytes"), sources) if sources else "<p>from memory</p>",
        *("<h3>Options</h3>", _table(("option", "value"), options)),
    ]
