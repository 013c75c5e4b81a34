"""The report of a health check as one HTML page that needs no network: counts, remedies, thumbnails."""

import base64
import tempfile
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from vatt.data.faults import FAULTS

if TYPE_CHECKING:
    from vatt.data.check.run import Line, Report

SHOWN = 2000  # files on the page, those with faults first: a browser can still scroll them, at some 10 MB
COLUMNS = ("file", "faults", "length", "picture", "fps", "sound", "size", "captions")


class Thumbnails:
    """JPEGs by number, kept on disk: those of a million files need not fit in memory."""

    def __init__(self):
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  closed on exit
        self._places: dict[int, tuple[int, int]] = {}

    def __enter__(self) -> "Thumbnails":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def add(self, number: int, jpeg: bytes) -> None:
        if jpeg:
            self._places[number] = self._file.seek(0, 2), len(jpeg)
            self._file.write(jpeg)

    def get(self, number: int) -> bytes:
        """b"" if there is none."""
        offset, size = self._places.get(number, (0, 0))
        self._file.seek(offset)
        return self._file.read(size)


def write_html(report: "Report", thumbnails: Thumbnails) -> Iterator[str]:
    """The page, in parts."""
    order = sorted(range(len(report.lines)), key=lambda n: (report.lines[n].usable, not report.lines[n].faults))[:SHOWN]
    total, usable = len(report.lines), report.usable
    name = escape(printable(report.source))
    yield f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>vatt data check {name}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{STYLE}</style></head><body>\n"
    share = 100 * usable / total if total else 0.0
    yield f'<header><p class="what">vatt data check</p><h1>{name}</h1>'
    yield f"<p><b>{total:,}</b> files · <b>{usable:,}</b> can be used ({share:.1f} %)"
    yield f" · <b>{total - usable:,}</b> cannot" + (" · probed only" if report.quick else "") + "</p>"
    yield '<div class="gauge" role="img" aria-label="share of files that can be used">'
    yield f'<i style="width:{share:.3f}%"></i></div></header>\n'
    yield from _summary(report)
    if report.ignored:
        yield f'<p class="note">Passed over: {escape(passed_over(report))}</p>'
    note = (
        f"The first {SHOWN:,} of {total:,} files, those with faults first; report.jsonl has all. "
        if total > SHOWN
        else ""
    )
    yield '<p class="tools"><input id="find" type="search" placeholder="find a file or detail" aria-label="find">'
    yield '<button id="all" type="button">all files</button> <span id="count"></span>'
    yield f' <span class="note">{note}</span></p>\n'
    yield '<table id="files"><thead><tr><th></th>'
    yield "".join(f'<th><button type="button" data-column="{n}">{c}</button></th>' for n, c in enumerate(COLUMNS, 1))
    yield "</tr></thead><tbody>\n"
    for number in order:
        yield from _row(report.lines[number], thumbnails.get(number))
    yield f"</tbody></table>\n<script>{SCRIPT}</script></body></html>\n"


def _summary(report: "Report") -> Iterator[str]:
    kinds = report.kinds
    if not kinds:
        yield '<p class="clean">No faults found.</p>\n'
        return
    yield '<table class="kinds"><thead><tr><th>files</th><th>what</th><th>remedy</th></tr></thead><tbody>'
    for reason, found in kinds.items():
        kind = FAULTS[reason]
        level = "fatal" if kind.fatal else "warning"
        yield f'<tr class="{level}"><td>{len(found):,}</td>'
        yield f'<td><button type="button" data-kind="{reason}">{escape(kind.says)}</button></td>'
        yield f"<td>{escape(kind.remedy)}</td></tr>\n"
    yield "</tbody></table>\n"


def _row(line: "Line", jpeg: bytes) -> Iterator[str]:
    facts = line.facts
    reasons = " ".join(dict.fromkeys(reason for reason, _ in line.faults))
    yield f'<tr data-kinds="{reasons}"><td class="thumbnail">'
    if jpeg:
        yield f'<img loading="lazy" alt="" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
    rows = f" <small>{len(line.ids):,} rows</small>" if len(line.ids) > 1 else ""
    split = f" <small>{escape(printable(line.split))}</small>" if line.split else ""
    yield f'</td><td class="name">{escape(printable(line.id))}{rows}{split}</td>'
    yield f'<td class="faults" data-value="{len(line.faults)}">'
    for reason, detail in line.faults:
        kind = FAULTS[reason]
        shown = f": {escape(printable(detail))}" if detail else ""
        yield f'<div class="{"fatal" if kind.fatal else "warning"}"><b>{escape(kind.says)}</b>{shown}</div>'
    yield "</td>"
    end = facts.get("end")
    yield _cell(end, f"{end:.2f} s" if end is not None else "still" if facts.get("still") else "")
    width, height = facts.get("width", 0), facts.get("height", 0)
    yield _cell(width * height, f"{width} × {height} {facts.get('video_codec', '')}" if width else "")
    fps = facts.get("fps", 0)
    yield _cell(fps, f"{fps:.2f}" if fps else "")
    rate = facts.get("sample_rate", 0)
    peak = f", peak {facts['peak_db']:.0f} dB" if "peak_db" in facts else ""
    sound = f"{rate / 1000:g} kHz × {facts.get('channels', 0)} {facts.get('audio_codec', '')}{peak}" if rate else ""
    yield _cell(rate, sound)
    size = facts.get("bytes", 0)
    yield _cell(size, readable(size) if size else "")
    yield _cell(line.captions, f"{line.captions:,}" if line.captions else "")
    yield "</tr>\n"


def _cell(value, shown: str) -> str:
    return f'<td class="number" data-value="{value or 0}">{escape(printable(shown))}</td>'


def passed_over(report: "Report") -> str:
    """How many files were passed over, by extension: `3 .pdf, 1 without ending`."""
    return printable(
        ", ".join(
            f"{count:,} .{kind}" if kind else f"{count:,} without ending" for kind, count in report.ignored.items()
        )
    )


def printable(text: str) -> str:
    """The text with control characters, and what is no Unicode, written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


def readable(size: float) -> str:
    """Bytes as people read them: 1.5 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


STYLE = """
:root{color-scheme:light dark;--ink:#1d2430;--dim:#667084;--line:#dfe3ea;--ground:#fff;--soft:#f5f7fa;--bad:#b3261e;
--odd:#8a5a00;--good:#1f7a4d}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ef;--dim:#98a2b3;--line:#343b48;--ground:#161a21;--soft:#1f252e;
--bad:#ff8a80;--odd:#e9b44c;--good:#5ecb94}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1320px;padding:24px;background:var(--ground);color:var(--ink);
font:14px/1.45 system-ui,sans-serif}
h1{font-size:22px;margin:0 0 4px;overflow-wrap:anywhere}.what,.note,small{color:var(--dim)}p.what{margin:0}
.gauge{height:8px;border-radius:4px;background:var(--bad);overflow:hidden;margin:8px 0 20px}
.gauge i{display:block;height:100%;background:var(--good)}
table{border-collapse:collapse;width:100%}th{text-align:left;font-weight:600;color:var(--dim)}
td,th{padding:6px 10px;border-bottom:1px solid var(--line);vertical-align:top}
.kinds{width:auto;margin-bottom:20px}.kinds td:first-child,td.number{font-variant-numeric:tabular-nums}
.kinds td:first-child{text-align:right;font-weight:600}td.number{white-space:nowrap}
button{font:inherit;color:inherit;background:none;border:0;padding:0;cursor:pointer;text-align:left}
button:hover,button:focus-visible,button.on{text-decoration:underline}
#all{border:1px solid var(--line);border-radius:6px;padding:5px 10px;background:var(--soft)}
input{font:inherit;padding:5px 10px;border:1px solid var(--line);border-radius:6px;background:var(--soft);color:inherit;
width:280px}
#files thead th{position:sticky;top:0;background:var(--ground);z-index:1}
.thumbnail{width:144px}.thumbnail img{display:block;max-width:128px;max-height:96px;border-radius:4px;
background:var(--soft)}
.name{overflow-wrap:anywhere;min-width:160px}.faults{min-width:320px;overflow-wrap:anywhere}
.fatal b,.kinds .fatal button{color:var(--bad);font-weight:600}
.warning b,.kinds .warning button{color:var(--odd);font-weight:600}.clean{color:var(--good);font-weight:600}
"""

SCRIPT = """
const body=document.querySelector('#files tbody'),rows=[...body.rows],find=document.querySelector('#find');
const text=rows.map(r=>r.textContent.toLowerCase());let kind='';
function show(){const words=find.value.toLowerCase();let n=0;rows.forEach((r,i)=>{
const on=(!kind||r.dataset.kinds.split(' ').includes(kind))&&text[i].includes(words);r.hidden=!on;n+=on});
document.querySelector('#count').textContent=n+' shown';
document.querySelectorAll('[data-kind]').forEach(b=>b.classList.toggle('on',b.dataset.kind===kind))}
document.querySelectorAll('[data-kind]').forEach(b=>b.onclick=()=>{kind=kind===b.dataset.kind?'':b.dataset.kind;show()});
document.querySelector('#all').onclick=()=>{kind='';find.value='';show()};find.oninput=show;
let last=0,way=1;document.querySelectorAll('[data-column]').forEach(b=>b.onclick=()=>{
const c=+b.dataset.column;way=c===last?-way:1;last=c;
const key=r=>{const v=r.cells[c].dataset.value;return v===undefined?r.cells[c].textContent:+v};
[...rows].sort((a,z)=>{const x=key(a),y=key(z);return way*(x<y?-1:x>y?1:0)}).forEach(r=>body.append(r))});
show();
"""
