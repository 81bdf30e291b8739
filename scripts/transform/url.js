// URL and URLSearchParams. parse, in Go, returns the parts of a URL in the order of names, or null.
(function (parse, encode, decode) {
  const names = ["href", "origin", "protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash"]
  const HREF = 0, ORIGIN = 1, SEARCH = 9 // the others are used once

  const escaped = (text, delimiters) => String(text).replace(delimiters, encodeURIComponent)
  const withSign = (sign, text) => text === "" || text === sign ? "" : text[0] === sign ? text : sign + text

  const pairsOf = text => text.split("&").filter(part => part !== "").map(part => {
    const at = part.indexOf("=")
    return at < 0 ? [decode(part), ""] : [decode(part.slice(0, at)), decode(part.slice(at + 1))]
  })

  let attach, refill

  class URLSearchParams {
    #list = []
    #changed // notifies the URL whose parameters these are
    static {
      attach = (params, changed) => { params.#changed = changed }
      refill = (params, query) => { params.#list = pairsOf(query) }
    }
    constructor(init) {
      if (init === undefined || init === null) return
      if (typeof init !== "object") {
        const text = String(init)
        this.#list = pairsOf(text[0] === "?" ? text.slice(1) : text)
        return
      }
      for (const pair of typeof init[Symbol.iterator] === "function" ? init : Object.entries(init)) {
        const [name, value, ...more] = pair
        if (value === undefined && pair.length < 2 || more.length) throw new TypeError("URLSearchParams: each pair must have a name and a value")
        this.#list.push([String(name), String(value)])
      }
    }
    #change(list) {
      this.#list = list
      this.#changed?.()
    }
    get size() { return this.#list.length }
    append(name, value) {
      this.#list.push([String(name), String(value)])
      this.#change(this.#list)
    }
    delete(name, value) {
      this.#change(this.#list.filter(([n, v]) => n !== String(name) || value !== undefined && v !== String(value)))
    }
    get(name) { return this.getAll(name)[0] ?? null }
    getAll(name) { return this.#list.filter(([n]) => n === String(name)).map(([, v]) => v) }
    has(name, value) { return this.#list.some(([n, v]) => n === String(name) && (value === undefined || v === String(value))) }
    set(name, value) {
      const first = this.#list.findIndex(([n]) => n === String(name))
      if (first < 0) return this.append(name, value)
      this.#change(this.#list.filter(([n], i) => i <= first || n !== String(name))
        .map((pair, i) => i === first ? [pair[0], String(value)] : pair))
    }
    sort() { this.#change(this.#list.sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0)) }
    forEach(callback, self) {
      for (const [name, value] of this) callback.call(self, value, name, this)
    }
    *entries() { for (const [name, value] of this.#list) yield [name, value] }
    *keys() { for (const [name] of this.#list) yield name }
    *values() { for (const [, value] of this.#list) yield value }
    [Symbol.iterator]() { return this.entries() }
    toString() { return this.#list.map(([name, value]) => encode(name) + "=" + encode(value)).join("&") }
    get [Symbol.toStringTag]() { return "URLSearchParams" }
  }

  class URL {
    #parts
    #params
    constructor(url, base) { this.#replace(parse(url, base), url) }
    static canParse(url, base) { return parse(url, base) !== null }
    static parse(url, base) { return this.canParse(url, base) ? new this(url, base) : null }
    #replace(parts, url) {
      if (!parts) throw new TypeError("Invalid URL: " + String(url).slice(0, 200))
      this.#parts = parts
      if (this.#params) refill(this.#params, parts[SEARCH].slice(1))
    }
    // A value that makes no valid URL changes nothing.
    #with(changes) {
      const p = { ...changes }
      names.forEach((name, i) => { p[name] ??= this.#parts[i] })
      const user = p.username + (p.password && ":" + p.password)
      const authority = p.hostname && "//" + (user && user + "@") + p.hostname + (p.port && ":" + p.port)
      if (authority && p.pathname[0] !== "/") return this.#parts // mailto: and the like have no host
      return parse(p.protocol + authority + p.pathname + p.search + p.hash, undefined, this.#parts[ORIGIN]) ?? this.#parts
    }
    #set(changes) { this.#replace(this.#with(changes)) }
    get href() { return this.#parts[HREF] }
    set href(value) { this.#replace(parse(value), value) }
    get origin() { return this.#parts[ORIGIN] }
    get protocol() { return this.#parts[2] }
    set protocol(value) { this.#set({ protocol: String(value).split(":")[0] + ":" }) }
    get username() { return this.#parts[3] }
    set username(value) { this.#set({ username: escaped(value, /[@:\/?#\\]/g) }) }
    get password() { return this.#parts[4] }
    set password(value) { this.#set({ password: escaped(value, /[@:\/?#\\]/g) }) }
    get host() { return this.#parts[5] }
    set host(value) {
      const [, hostname, port] = /^(\[[^\]]*\]|[^:\/?#@]*)(?::(\d*))?/.exec(value)
      this.#set(port ? { hostname, port } : { hostname })
    }
    get hostname() { return this.#parts[6] }
    set hostname(value) { if (/^(\[[^\]]*\]|[^:\/?#@]*)$/.test(value)) this.#set({ hostname: String(value) }) }
    get port() { return this.#parts[7] }
    set port(value) { if (/^(\d|$)/.test(value)) this.#set({ port: String(value).replace(/\D.*/s, "") }) }
    get pathname() { return this.#parts[8] }
    set pathname(value) { this.#set({ pathname: escaped(value, /[?#]/g).replace(/^\/?/, "/") }) }
    get search() { return this.#parts[SEARCH] }
    set search(value) { this.#set({ search: withSign("?", escaped(value, /#/g)) }) }
    get hash() { return this.#parts[10] }
    set hash(value) { this.#set({ hash: withSign("#", String(value)) }) }
    get searchParams() {
      if (!this.#params) {
        this.#params = new URLSearchParams(this.#parts[SEARCH])
        attach(this.#params, () => { this.#parts = this.#with({ search: withSign("?", this.#params.toString()) }) })
      }
      return this.#params
    }
    toString() { return this.#parts[HREF] }
    toJSON() { return this.#parts[HREF] }
    get [Symbol.toStringTag]() { return "URL" }
  }

  return { URL, URLSearchParams }
})
