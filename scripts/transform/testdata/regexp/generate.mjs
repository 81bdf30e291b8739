// Writes expected.json: what Node makes of each pattern and text.
//
//   node generate.mjs > expected.json
import { readFileSync } from "node:fs"
const probe = new Function(readFileSync(new URL("probe.js", import.meta.url), "utf8") + "; return probe")()

const texts = [
  "write to ada@example.com or BOB@Example.com",
  "écrire à ada@example.com, ou à BÉA@exämple.com",
  "日本 Kelvin \u212a, long \u017f, straße STRASSE ΣΑΣ σας İı ÅÅå",
  "a😀b 😀A\u2028x\u2029y\nz\r\nÉé",
  "# Title\n<b>Fett</b> und <B>größer</B>\n## Second\n",
]
const classes = [".", "\\S", "\\D", "\\W", "\\s", "\\d", "\\w", "[^a]", "[^é]", "[^A-Z]", "[a-z]", "[A-Zé]", "[à-ÿ]", "[\\S]", "[^\\S]",
  "[\\W_]", "[^\\W_]", "[\\D,]", "[^\\s@]", "[\\s\\S]", "[^]", "[\\u0080-\\uffff]", "[^\\u0000-\\u007f]", "[\\w.-]", "[σ]", "[ſ]", "k", "s", "ß", "å", "ÿ", "É"]
const patterns = [
  "\\S+@\\S+", "<b>(.*?)</b>", "^# (.*)$", "a\\Dx", "a\\Wx", "^(?!.*\\.\\.).+@.+$", "(?<=.).(?=.*@)", "(?<=\\W)\\w", "(?<!\\w)[a-zé]+",
  "(?<user>[^@\\s]+)@(?<host>[^@\\s,]+)", "(.)\\1", "(\\w)\\1", "(?=\\S*@)\\S", "(?!\\S)|@", "\\bada\\b", "\\Bd", "(?:é|e)crire", "x*", "(a)|(b)",
  "[^<>]+(?=>)", "^\\s*|\\s*$", "(\\S+)\\s(\\S+)", "[^\\x00-\\x7F]+", "\\u00e9", "strasse|straße", "(?:(\\d)|(\\D))+", "(z)((a+)?(b+)?(c))*",
  "(?=(a+))a*b\\1", "(?<=(\\w+?))@", "(?<y>a)(?:b|\\k<y>)?", "a{0,2}", "(?:a*?)*@", "[\\b]|[.]", "\\/", "[^]@[^]", "$^|$", "\\u{61}|a",
]
const rows = []
const add = (p, f, n) => {
  try { new RegExp(p, f) } catch { return }
  rows.push({ pattern: p, flags: f, text: n % 5, expected: probe(p, f, texts[n % 5]) })
}
classes.forEach((c, n) => ["i", "gi", "gim", "giu", "gis"].forEach((f, m) => {
  for (let k = 0; k < 2; k++) add(k ? c + "+" : c, f, n + m + k)
}))
patterns.forEach((p, n) => ["i", "gi", "gim", "", "giu"].forEach((f, m) => { add(p, f, n + m); add(p, f, n + m + 1) }))
process.stdout.write(`{"texts": ${JSON.stringify(texts)}, "rows": [\n${rows.map(r => JSON.stringify(r)).join(",\n")}\n]}\n`)
