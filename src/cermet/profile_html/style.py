"""What a profile's page adds to the style sheet. Colours by what bounds a layer, and by unit; zoom by radio buttons."""

# What bounds a layer, or a unit of the timeline: one of the eight colours, or the CPU's.
COLOURS = {"array": "p0", "load": "p2", "stream": "p5", "output": "p1", "store": "p7", "memory": "p3", "start": "p4",
           "interrupt": "grey", "cpu": "cpu"}
ZOOMS = (1, 4, 16, 64)

STYLE = """
.grey{--c:#8a94a0}
.swatch{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:5px;vertical-align:-1px;
background:var(--c)}
.figure{background:var(--sheet);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.figure svg text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--ink)}
.figure svg .soft{fill:var(--soft)}
.figure svg .grid{stroke:var(--line);stroke-width:1}
.figure svg .roof{stroke:var(--ink);stroke-width:2;fill:none}
.figure svg .port{stroke:var(--soft);stroke-width:1.5;stroke-dasharray:5 4;fill:none}
.figure svg circle{fill:var(--c);fill-opacity:.55;stroke:var(--c);stroke-width:1.2}
.figure svg circle:hover{fill-opacity:1}
.stack{display:flex;height:26px;border-radius:6px;overflow:hidden;margin:0 0 8px}
.stack i{display:block;height:100%;background:var(--c)}
.zoom{display:flex;gap:14px;align-items:center;font-size:13px;color:var(--soft);margin:0 0 8px}
.lanes{display:grid;grid-template-columns:112px minmax(0,1fr)}
.lanes .names{font-size:12px;color:var(--soft)}
.lanes .names div{height:22px;line-height:22px;white-space:nowrap}
.lanes .names .core{color:var(--ink);font-weight:600}
.lanes .names .tall{line-height:14px;white-space:normal}
.view{overflow-x:auto;overflow-y:hidden}
.wide{position:relative;width:100%}
.wide svg{display:block;width:100%}
.wide rect{fill:var(--c);shape-rendering:crispEdges}
.wide rect:hover{opacity:.6}
.wide .lane{fill:none;stroke:var(--line);stroke-width:1}
.wide .alive{fill:none;stroke:var(--ink);stroke-width:1.5;vector-effect:non-scaling-stroke}
.ticks{position:relative;height:18px;font-size:11px;color:var(--soft)}
.ticks span{position:absolute;transform:translateX(-50%);white-space:nowrap;display:none}
.ticks .first{transform:none}
.layers td,.layers th{padding:5px 8px;font-size:13px}
.layers td.name{min-width:120px;max-width:230px}
.share{position:relative}
.share i{position:absolute;left:0;bottom:2px;height:3px;border-radius:2px;background:var(--c);max-width:100%}
.scrolled{overflow-x:auto}
.figure h2{font-size:15px;margin:18px 0 8px}
""" + "".join(
    f"#z{zoom}:checked~.lanes .wide{{width:{100 * zoom}%}}#z{zoom}:checked~.lanes .t{zoom}{{display:block}}"
    for zoom in ZOOMS)
