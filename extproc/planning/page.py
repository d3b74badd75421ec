"""The HTML report: one self-contained page, drawn from a plan's record."""

from html import escape

from extproc.planning.charts import Lines, bars, dollars, percent, tokens
from extproc.planning.record import Record
from extproc.planning.savings import savings

ALPHAS = (0.4, 0.6, 0.8, 1.0)
MOST_RHO = 8.0

STYLE = """
:root{--ink:#1c2430;--soft:#5b6675;--rule:#e3e7ec;--page:#fff;--card:#f7f8fa;
--a:#2563a8;--b:#d97706;--c:#15803d;--d:#a21caf;--e:#64748b;--bad:#b42318}
@media(prefers-color-scheme:dark){:root{--ink:#e8ebf0;--soft:#a2acba;--rule:#333b47;--page:#14181e;--card:#1d232b;
--a:#6aa9ee;--b:#f2a84b;--c:#5cc486;--d:#e08af0;--e:#94a3b8;--bad:#ff8a80}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:24px 16px 64px}h1{font-size:1.5rem;line-height:1.25;margin:.2em 0 .5em}
h2{font-size:1.1rem;margin:2em 0 .5em}.soft{color:var(--soft)}.bad{color:var(--bad);font-weight:600}
.grid{display:grid;gap:16px;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr))}
figure{margin:0;background:var(--card);border-radius:8px;padding:14px;min-width:0}
figcaption{font-size:.95rem;margin-bottom:8px}svg{width:100%;max-width:480px;height:auto;display:block}
svg text{font:13px system-ui,sans-serif;fill:var(--soft);paint-order:stroke;stroke:var(--card);stroke-width:4px}
svg .strong{fill:var(--ink);font-weight:600}
svg .line{fill:none;stroke-width:2.2}svg .rule{stroke:var(--rule)}svg .mark{stroke:var(--ink);stroke-dasharray:4 3}
svg .dot{fill:var(--ink)}.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;min-width:100%}
th,td{padding:5px 10px;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}
th:first-child,td:first-child{text-align:left;white-space:normal;min-width:11em}
pre{background:var(--card);padding:12px;border-radius:8px;white-space:pre-wrap;overflow-wrap:anywhere;
font-size:.85rem}li{margin:.25em 0}
@media(max-width:480px){main{padding:16px 10px 48px}figure{padding:10px}table{font-size:.8rem}th,td{padding:4px 6px}
th:first-child,td:first-child{min-width:8em}h1{font-size:1.3rem}ul{padding-left:1.2em}}
"""


def page(record: Record) -> str:
    """Return the report of a plan as one HTML document without anything to load."""
    instance = record["instance"]
    problems = "".join(f'<p class="bad">Not met: {escape(p)}</p>' for p in record["problems"])
    body = [
        f"<p class=soft>Dualpool plan: {escape(record['workload']['name'])}</p>",
        f"<h1>{escape(record['headline'])}</h1>",
        problems,
        "".join(f"<p>Mind: {escape(line)}</p>" for line in record["remarks"]),
        f"<p>{_subtitle(record)}</p>",
        f"<p class=soft>Under {escape(record['other']['concurrency'])} concurrency instead: "
        f"{escape(record['other']['headline'])}</p>",
        f"<div class=grid>{''.join(_figure(*figure) for figure in _figures(record))}</div>",
        "<h2>What the split is compared with</h2>",
        _baselines(record),
        f"<h2>The fleet: {escape(record['chosen']['label'])}</h2>",
        _pools(record),
        "<h2>Every threshold</h2>",
        _curve(record),
        "<h2>Same threshold, one thing changed</h2>",
        _sensitivity(record),
        "<h2>What to do next</h2>",
        f"<pre>{escape(chr(10).join(record['next']))}</pre>",
        "<p><code>dualpool plan … --write-config DIR</code> writes the configuration of Dualpool and of Envoy.</p>",
        "<h2>Assumed</h2>",
        _list(record["assumptions"] + record["workload"]["notes"]),
        "<p class=soft>How the figures are computed, and what each assumption does to them: docs/planning.md.</p>",
        "<h2>Sources</h2>",
        _list(record["sources"]),
    ]
    title = f"Dualpool plan: {instance['model']} on {instance['gpu']}"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style><main>{''.join(body)}</main></html>\n"
    )


def _subtitle(record: Record) -> str:
    instance, workload = record["instance"], record["workload"]
    rows = f"{workload['rows']:,} rows, {workload['bad_rows']:,} left out" if workload["rows"] else "a distribution"
    return escape(
        f"{instance['model']} on {instance['gpu']}, {instance['gpus_per_instance']} GPUs an instance at "
        f"${instance['price_per_gpu_hour']:.2f} per GPU and hour; {instance['concurrency']} concurrency; "
        f"{workload['sized_for']:,.5g} requests/s; {rows}."
    )


Figure = tuple[str, str]


def _figures(record: Record) -> list[Figure]:
    figures = [_lengths(record), _thresholds(record), _closed_form(record), _costs(record)]
    if record.get("simulation"):
        figures += [_ttft(record["simulation"]), _preemptions(record["simulation"])]
    return figures


def _lengths(record: Record) -> Figure:
    workload = record["workload"]
    marks = [(float(t), f"cut at {t:,}") for t in record["chosen"]["thresholds"]]
    chart = Lines(
        "tokens",
        "share of requests at or below",
        [("used: input + output", workload["cdf"]), ("asked for: input + cap", workload["budget_cdf"])],
        x_log=True,
        x_format=tokens,
        y_format=percent,
        y_most=1.0,
        marks=marks,
    )
    caption = f"How long requests are. {record['chosen']['alpha']:.1%} are served by the smallest pool."
    return caption, chart.svg(caption)


def _thresholds(record: Record) -> Figure:
    points = [(float(p["thresholds"][0]), float(p["gpus"])) for p in record["curve"] if len(p["thresholds"]) == 1]
    if not points:
        rows = [(", ".join(map(str, p["thresholds"])), [("GPUs", float(p["gpus"]))]) for p in record["curve"][:10]]
        caption = "GPUs by thresholds (the first ten)"
        return caption, bars(caption, "GPUs", rows)
    base = record["baselines"][0]
    chart = Lines(
        "threshold, tokens",
        "GPUs",
        [("two pools", points)],
        x_log=True,
        x_format=tokens,
        levels=[(float(base["gpus"]), base["label"])],
        marks=[(float(record["chosen"]["thresholds"][0]), "best")],
    )
    caption = "GPUs by threshold. A flat valley means the exact cut matters little."
    return caption, chart.svg(caption)


def _closed_form(record: Record) -> Figure:
    rhos = [1 + (MOST_RHO - 1) * i / 40 for i in range(41)]
    series = [(f"α = {alpha:g}", [(rho, savings(alpha, rho)) for rho in rhos]) for alpha in ALPHAS]
    chosen = record["chosen"]
    dots = [(min(chosen["rho"], MOST_RHO), max(chosen["saved"], 0.0), "this plan")]
    chart = Lines(
        "ρ: short instance over homogeneous one",
        "share saved",
        series,
        x_format=lambda x: f"{x:g}",
        y_format=percent,
        y_most=1.0,
        dots=dots,
        names_at_end=True,
    )
    caption = (
        f"The closed form α(1 − 1/ρ). This plan: α = {chosen['alpha']:.3f}, ρ = {chosen['rho']:.2f}. It lies below "
        f"its curve when a long instance does fewer requests than a homogeneous one (σ = {chosen['sigma']:.2f})."
    )
    return caption, chart.svg(caption)


def _costs(record: Record) -> Figure:
    fleets = [*record["baselines"], record["chosen"]]
    rows = [(f["label"], [("a year", float(f["cost_per_year"]))]) for f in fleets]
    caption = "Cost per year at the stated price"
    return caption, bars(caption, "dollars a year", rows, dollars, record["chosen"]["label"])


def _ttft(results: list[Record]) -> Figure:
    rows = [(r["policy"], [(p, float(r["fleet"]["ttft"][p])) for p in ("p50", "p99")]) for r in results]
    caption = f"Time to first token by routing policy, {results[0]['requests']:,} simulated requests"
    return caption, bars(caption, "seconds", rows, lambda s: f"{s:.2f} s")


def _preemptions(results: list[Record]) -> Figure:
    rows = [(r["policy"], [("preemptions", float(r["fleet"]["preemptions_per_1000"]))]) for r in results]
    caption = "Preemptions per 1,000 requests by routing policy"
    if not any(value for _, members in rows for _, value in members):
        caption += ": none under any"
    return caption, bars(caption, "per 1,000 requests", rows, lambda n: f"{n:.2f}")


def _figure(caption: str, svg: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>"


def _table(head: list[str], rows: list[list[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def _baselines(record: Record) -> str:
    rows = [
        [b["label"], f"{b['instances']:,}", f"{b['gpus']:,}", dollars(b["cost_per_year"]), f"{b['saved']:.1%}"]
        for b in record["baselines"]
    ]
    return _table(["baseline", "instances", "GPUs", "a year", "the split saves"], rows)


def _pools(record: Record) -> str:
    rows = [
        [
            f"max_model_len {p['max_model_len']:,}",
            f"{p['instances']:,}",
            f"{p['gpus']:,}",
            f"{p['share']:.2%}",
            f"{p['requests_per_second_per_instance']:.2f}" + (" (measured)" if p["measured"] else ""),
            f"{p['sequences']:.0f}",
            f"{p['utilisation']:.0%}",
            f"{p['ttft_p99']:.2f} s",
        ]
        for p in record["chosen"]["pools"]
    ]
    return _table(["pool", "instances", "GPUs", "share", "req/s each", "sequences", "use", "P99 TTFT"], rows)


def _curve(record: Record) -> str:
    rows = [
        [
            ", ".join(f"{t:,}" for t in p["thresholds"]),
            f"{p['gpus']:,}",
            f"{p['saved']:.1%}",
            f"{p['predicted']:.1%}",
            f"{p['alpha']:.3f}",
            f"{p['rho']:.2f}",
            f"{p['sigma']:.2f}",
            "missed" if p["problems"] else "estimated",
        ]
        for p in record["curve"]
    ]
    return _table(["threshold", "GPUs", "saved", "closed form", "α", "ρ", "σ", "objective"], rows)


def _sensitivity(record: Record) -> str:
    rows = [
        [
            v["what"],
            "" if v["gpus"] is None else f"{v['gpus']:,}",
            f"{v['saved']:.1%}",
            "estimated" if v["met"] else "missed",
        ]
        for v in record["sensitivity"]
    ]
    return _table(["what", "GPUs", "saved", "objective"], rows)


def _list(lines: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
