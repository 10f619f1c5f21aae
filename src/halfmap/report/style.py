"""The look of the pages, light and dark."""

from typing import Final

STYLE: Final = """
:root { --ink: #1d2430; --soft: #5d6878; --line: #dfe4ea; --paper: #fff; --tint: #f5f7fa; --mark: #1769aa;
  --good: #19734a; --good-tint: #e6f4ec; --doubt: #8a5200; --doubt-tint: #fdf1dc; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --soft: #9aa5b4; --line: #333c49; --paper: #171b21;
  --tint: #1f252e; --mark: #6db3ea; --good: #7fd3a8; --good-tint: #17301f; --doubt: #f0c27a; --doubt-tint: #362a14; }
  figure img { background: #fff; border-radius: 4px; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
header, nav, main, footer { max-width: 1080px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 36px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
header p { color: var(--soft); margin: 0 0 12px; overflow-wrap: anywhere; }
h2 { font-size: 21px; margin: 44px 0 8px; padding-top: 14px; border-top: 1px solid var(--line); }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 14px; }
a { color: var(--mark); text-decoration: none; } a:hover { text-decoration: underline; }
.facts { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0; }
.fact { background: var(--tint); border-radius: 8px; padding: 12px 18px; min-width: 130px; }
.fact b { display: block; font-size: 23px; font-weight: 600; font-variant-numeric: tabular-nums; }
.fact span { color: var(--soft); font-size: 13px; }
.verdict, .warning { padding: 11px 16px; border-radius: 8px; }
.good { background: var(--good-tint); color: var(--good); }
.doubt, .warning { background: var(--doubt-tint); color: var(--doubt); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; margin: 14px 0; min-width: 50%; }
caption { text-align: left; color: var(--soft); padding-bottom: 6px; }
th { text-align: left; color: var(--soft); font-weight: 500; }
th, td { padding: 5px 16px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; }
figure { margin: 18px 0; } figure img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: 14px; margin-top: 6px; max-width: 80ch; }
pre { background: var(--tint); padding: 12px 16px; border-radius: 8px; font-size: 13px; white-space: pre-wrap;
  overflow-wrap: anywhere; }
p { max-width: 80ch; }
footer { color: var(--soft); font-size: 13px; padding-top: 48px; padding-bottom: 36px; }
"""
