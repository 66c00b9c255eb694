"""Rows to a Markdown table a precision class, and what stands beside it: first results, memory, errors, absences."""

from __future__ import annotations

from comparison.cases import CASES
from comparison.products import products, with_attention

__all__ = ["bare_ms", "markdown"]

TITLES = {"f32": "float32", "bf16": "bfloat16", "int8": "int8"}


def number(x):
    """Three digits, without an exponent."""
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def label(row):
    return f"{row['engine']}{' autocast' if row['precision'].endswith('-autocast') else ''}"


def bare_ms(case, row):
    """Milliseconds that all products of a case would take at the bare rate."""
    return row["ms"] * with_attention(CASES[case]) if products(CASES[case]) else None


def _by_case(rows):
    """{case: {column: row}}, and the columns in their order."""
    cases, columns = {}, []
    for row in rows:
        cases.setdefault(row["case"], {})[label(row)] = row
        if label(row) not in columns:
            columns.append(label(row))
    return cases, columns


def _table(head, lines):
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for line in lines:
        yield "| " + " | ".join(line) + " |"
    yield ""


def _times(rows):
    cases, columns = _by_case(rows)
    engines = [c for c in columns if c != "bare"]
    has_bare = "bare" in columns
    for case, found in cases.items():
        peers = [r["ms"] for c, r in found.items() if c not in ("bare", "plait") and "ms" in r and not r.get("wrong")]
        ours = found.get("plait", {}).get("ms")
        line = [case]
        for column in engines:
            row = found.get(column, {})
            if "ms" not in row:
                line.append("failed" if "failed" in row else "-")
                continue
            text = number(row["ms"]) + (" *" if row["busy"] else "") + (" (wrong)" if row.get("wrong") else "")
            line.append(f"**{text}**" if peers and row["ms"] == min([*peers, ours or peers[0]]) else text)
        line.append(f"{min(peers) / ours:.2f}x" if peers and ours else "")
        if has_bare:
            bare = bare_ms(case, found["bare"]) if "ms" in found.get("bare", {}) else None
            line.append(f"{100 * bare / ours:.0f} %" if bare and ours else "")
        yield line


def _details(rows):
    for r in rows:
        if "ms" in r and r["engine"] != "bare":
            error = f"{r['error']:.1e} ({r['error_at']})" if "error" in r else ""
            first = [number(r[k]) for k in ("import_s", "first_s")]
            memory = [number(r["peak_mb"]), number(r["peak_mb"] - r["before_mb"])]
            yield [r["case"], label(r), number(r["ms"]), number(r["p90_ms"]), *first, *memory, error]


def markdown(rows, head):
    """A document; `head` is a line that says what was run where."""
    lines = ["# Comparison", "", head, ""]
    for name, title in TITLES.items():
        here = [r for r in rows if r["class"] == name]
        if not any("ms" in r and r["engine"] != "bare" for r in here):
            continue
        columns = [c for c in _by_case(here)[1] if c != "bare"]
        bare = ["of bare"] if any(r["engine"] == "bare" for r in here) else []
        lines += [f"## {title}: milliseconds, medians", ""]
        lines += _table(["case", *columns, "plait to best peer", *bare], _times(here))
        lines += [f"### {title}: beside the time", ""]
        heads = ["case", "engine", "ms", "p90 ms", "import s", "first result s", "peak MB", "of it since import MB"]
        lines += _table([*heads, "relative error"], _details(here))
    lines += [
        "Bold: the fastest correct one. \"of bare\": the case's matrix products at the rate of oneDNN's packed matmul,",
        "as a share of plait's time. The first result counts from loaded libraries and includes loading the model.",
        "A row marked * ran while other processes took more than a tenth of a core. Errors are the largest relative",
        "error of an output or a gradient against the reference; results above the limit of their class are wrong.",
        "",
    ]
    missing = [r for r in rows if "ms" not in r]
    if missing:
        lines += ["## Absent", ""]
        reasons = {}
        for r in missing:
            reason = r.get("absent") or f"failed: {r['failed']}"
            reasons.setdefault((r["engine"], r["precision"], reason), []).append(r["case"])
        lines += [f"* {e} {p}: {reason} ({', '.join(cases)})" for (e, p, reason), cases in reasons.items()]
        lines.append("")
    return "\n".join(lines)
