"""The page's style sheet. Colours are variables, light and dark; --p0 to --p7 tell partitions apart."""

STYLE = """
:root{--paper:#f6f7f9;--sheet:#fff;--ink:#1d2733;--soft:#5d6b7a;--line:#dfe3e8;--accent:#1f6feb;--cpu:#c2571a;
--cpu-paper:#fdf1e8;--npu-paper:#eef4fd;--p0:#2f6fb2;--p1:#2b8a68;--p2:#7a55b8;--p3:#b0467e;--p4:#8a7a1f;--p5:#2f8fa8;
--p6:#5667c9;--p7:#5f8a2b}
@media (prefers-color-scheme:dark){:root{--paper:#12171d;--sheet:#1a2129;--ink:#e3e8ee;--soft:#98a5b3;--line:#2c3640;
--accent:#6ea8ff;--cpu:#f0975a;--cpu-paper:#33241a;--npu-paper:#1c2938;--p0:#6aa5e3;--p1:#5cc09b;--p2:#b095e6;
--p3:#e085b6;--p4:#cdb94f;--p5:#63c0d8;--p6:#96a4f5;--p7:#9cc862}}
*{box-sizing:border-box}
html{scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1240px;margin:0 auto;padding:36px 24px 60px}
header h1{margin:0;font-size:28px;line-height:1.2;overflow-wrap:anywhere}
header p{margin:4px 0 24px;color:var(--soft)}
section{margin:0 0 34px}
section>h2{font-size:19px;margin:0 0 10px}
section>p{margin:0 0 12px;color:var(--soft)}
a{color:var(--accent);text-decoration:none}
a:hover{text-decoration:underline}
code{font:12px ui-monospace,Menlo,Consolas,monospace;color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:14px}
.tile,.card,.scroll,table{background:var(--sheet);border:1px solid var(--line);border-radius:10px}
.tile{padding:14px 16px}
.tile h2{margin:0;font-size:12px;font-weight:600;letter-spacing:.04em;text-transform:uppercase;color:var(--soft)}
.tile p{margin:6px 0 0;font-size:13px;color:var(--soft)}
.tile .big{font-size:27px;line-height:1.2;color:var(--ink);font-weight:600}
.bar{height:6px;margin-top:8px;border-radius:3px;background:var(--line);overflow:hidden}
.bar i{display:block;height:100%;background:var(--p0)}
.fault{border-left:4px solid #d02f2f;padding-left:14px}
.split{display:grid;grid-template-columns:minmax(0,6fr) minmax(0,5fr);gap:28px;align-items:start}
.split .drawing{position:sticky;top:16px}
.card{padding:12px 16px;margin:0 0 12px;border-left:4px solid var(--cpu)}
.card h3{margin:0;font-size:15px}
.card h3 span{color:var(--soft);font-weight:400}
.card ul{margin:6px 0;padding-left:18px}
.card .links{margin:8px 0 0;font-size:13px;color:var(--soft)}
.advice{color:var(--ink);background:var(--npu-paper);border-radius:6px;padding:5px 9px;margin:5px 0 0;font-size:13.5px}
.hint,.assumed{font-size:13.5px;color:var(--soft)}
.legend{display:flex;flex-wrap:wrap;gap:16px;font-size:13px}
.legend i,.dot{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px;vertical-align:-1px;
background:var(--c)}
.scroll{overflow:auto;height:84vh;min-height:480px;padding:6px}
.graph{display:block;margin:0 auto;max-width:100%;height:auto}
.edge{fill:none;stroke:var(--soft);stroke-opacity:.55;stroke-width:1.5}
.node rect{fill:var(--npu-paper);stroke:var(--c)}
.node .stripe{fill:var(--c);stroke:none}
.node.cpu rect{fill:var(--cpu-paper)}
.node.cpu .stripe{fill:var(--c)}
.node text{font:12.5px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--ink)}
.node .number{fill:var(--soft)}
.node .small{font-size:11px;fill:var(--soft)}
.node:hover rect{stroke-width:2.5}
.cpu,.on-cpu{--c:var(--cpu)}
.p0{--c:var(--p0)}.p1{--c:var(--p1)}.p2{--c:var(--p2)}.p3{--c:var(--p3)}
.p4{--c:var(--p4)}.p5{--c:var(--p5)}.p6{--c:var(--p6)}.p7{--c:var(--p7)}
table{border-collapse:separate;border-spacing:0;width:100%;font-size:14px;overflow:hidden}
th{position:sticky;top:0;background:var(--sheet);text-align:left;font-size:12px;color:var(--soft);font-weight:600}
th,td{padding:7px 12px;border-bottom:1px solid var(--line);vertical-align:top}
tbody tr:last-child td{border-bottom:0}
tr:target td{background:var(--npu-paper)}
.r{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.tag{display:inline-block;padding:1px 8px;border-radius:9px;font-size:12px;white-space:nowrap;color:var(--c);
border:1px solid var(--c)}
small{color:var(--soft);font-size:12px}
summary{cursor:pointer;color:var(--soft);margin:0 0 8px}
.plain{margin:0;padding-left:20px}
.plain li{margin:0 0 4px}
footer{color:var(--soft);font-size:13px;border-top:1px solid var(--line);padding-top:12px}
@media (max-width:900px){.split{display:block}.split .drawing{position:static}
.nodes th:nth-child(5),.nodes td:nth-child(5){display:none}
main{padding:20px 12px}}
@media print{.split{display:block}.split .drawing{position:static}.scroll{height:auto;overflow:visible}}
"""
