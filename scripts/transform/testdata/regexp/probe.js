// probe runs one pattern over one text in every way that a script can.
// Node runs it to make expected.json, and the test runs it in a transform.
function probe(pattern, flags, text) {
  const make = f => new RegExp(pattern, f)
  const global = flags.includes("g") ? flags : flags + "g"
  const once = flags.replace("g", "")
  const shown = m => m && [m.index, ...m.map(g => g === undefined ? null : g), ...(m.groups ? Object.entries(m.groups).map(([k, v]) => k + "=" + v) : [])]
  const loop = []
  const re = make(global)
  for (let m; (m = re.exec(text)) && loop.length < 9;) {
    loop.push(shown(m))
    if (m[0] === "") re.lastIndex++
  }
  const sticky = make(once + "y")
  sticky.lastIndex = 2
  const stuck = sticky.test(text)
  return {
    first: shown(make(once).exec(text)),
    loop,
    all: [...text.matchAll(make(global))].map(m => m.index).join(),
    match: (text.match(make(global)) || []).join("|"),
    replace: text.replace(make(global), "<$&>"),
    call: text.replace(make(global), (m, ...rest) => "(" + m.length + ")"),
    split: text.split(make(once)).map(String).join("|"),
    search: text.search(make(once)),
    sticky: [stuck, sticky.lastIndex],
  }
}
