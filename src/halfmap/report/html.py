"""A page in one file: text, tables, figures and warnings, readable offline and for years."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from halfmap import __version__
from halfmap.report.style import STYLE


@dataclass
class Report:
    """A page that is built from top to bottom and rendered at the end.

    >>> page = Report("Refinement", "r")
    >>> page.section("Resolution", "Two independent halves agree to 3.2 Å.")
    >>> "<h2 id='resolution'>Resolution</h2>" in page.render()
    True
    """

    title: str
    subtitle: str = ""
    refresh_s: int | None = None
    """Let browsers load the page again after that time."""
    _body: list[str] = field(default_factory=list)
    _sections: list[tuple[str, str]] = field(default_factory=list)

    def section(self, title: str, text: str = "") -> None:
        """Begin a section with an optional opening paragraph."""
        anchor = "".join(c if c.isalnum() else "-" for c in title.lower()).strip("-")
        self._sections.append((anchor, title))
        self._body.append(f"<h2 id='{anchor}'>{html.escape(title)}</h2>")
        if text:
            self.text(text)

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._body.append(f"<p>{html.escape(text)}</p>")

    def code(self, text: str) -> None:
        """Add a command or other text that is shown as it is."""
        self._body.append(f"<pre>{html.escape(text)}</pre>")

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Add the few numbers that matter, large."""
        cells = "".join(
            f"<div class='fact'><b>{html.escape(shown(value))}</b><span>{html.escape(name)}</span></div>"
            for name, value in facts.items()
        )
        self._body.append(f"<div class='facts'>{cells}</div>")

    def verdict(self, text: str, *, good: bool) -> None:
        """Add the plain-words judgement of the page."""
        self._body.append(f"<p class='verdict {'good' if good else 'doubt'}'>{html.escape(text)}</p>")

    def warnings(self, warnings: Sequence[str]) -> None:
        """Add warnings; none add nothing."""
        self._body.extend(f"<p class='warning'>{html.escape(text)}</p>" for text in warnings)

    def table(self, rows: Sequence[Mapping[str, Any]], caption: str = "") -> None:
        """Add a table whose columns are the keys of the first row."""
        if not rows:
            return
        names = list(rows[0])
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        lines = "".join("<tr>" + "".join(_cell(row.get(name, "")) for name in names) + "</tr>" for row in rows)
        title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
        self._body.append(f"<div class='wide'><table>{title}<tr>{head}</tr>{lines}</table></div>")

    def figure(self, picture: bytes, caption: str) -> None:
        """Add a figure (PNG or SVG bytes) with its caption."""
        if picture.lstrip().startswith((b"<?xml", b"<svg")):
            source = "data:image/svg+xml;base64," + base64.b64encode(picture).decode()
        else:
            source = "data:image/png;base64," + base64.b64encode(picture).decode()
        text = html.escape(caption)
        self._body.append(f"<figure><img alt='{text}' src='{source}'><figcaption>{text}</figcaption></figure>")

    def link(self, target: str, text: str) -> None:
        """Add a link to another file of the same project (relative path)."""
        self._body.append(f"<p><a href='{html.escape(target, quote=True)}'>{html.escape(text)}</a></p>")

    def render(self) -> str:
        """Return the page as HTML without references to anything outside."""
        contents = "".join(f"<a href='#{anchor}'>{html.escape(title)}</a>" for anchor, title in self._sections)
        again = f"<meta http-equiv='refresh' content='{self.refresh_s}'>" if self.refresh_s else ""
        return (
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
            "<meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"{again}<title>{html.escape(self.title)} · halfmap</title><style>{STYLE}</style></head><body>"
            f"<header><h1>{html.escape(self.title)}</h1><p>{html.escape(self.subtitle)}</p></header>"
            f"<nav>{contents}</nav><main>{''.join(self._body)}</main>"
            f"<footer>halfmap {__version__}</footer></body></html>\n"
        )


def shown(value: Any) -> str:
    """A value as people read it.

    >>> shown(3.14159), shown(12), shown(True), shown(float("inf"))
    ('3.14', '12', 'yes', '∞')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value != value:
            return "–"
        if value in (float("inf"), float("-inf")):
            return "∞" if value > 0 else "−∞"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)


def _cell(value: Any) -> str:
    kind = " class='number'" if isinstance(value, int | float) and not isinstance(value, bool) else ""
    return f"<td{kind}>{html.escape(shown(value))}</td>"
