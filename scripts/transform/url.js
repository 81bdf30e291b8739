// URL and URLSearchParams of https://url.spec.whatwg.org. The parsing itself is Go's:
// parse and change return the parts in the order of the constants below, or null.
(function (parse, change, encode, decode) {
  const HREF = 0, ORIGIN = 1, PROTOCOL = 2, USERNAME = 3, PASSWORD = 4, HOST = 5,
    HOSTNAME = 6, PORT = 7, PATHNAME = 8, SEARCH = 9, HASH = 10

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
      } else if (typeof init[Symbol.iterator] === "function") {
        for (const pair of init) {
          const [name, value, ...more] = pair
          if (value === undefined || more.length) throw new TypeError("URLSearchParams: each pair must have a name and a value")
          this.#list.push([String(name), String(value)])
        }
      } else {
        for (const name of Object.keys(init)) this.#list.push([name, String(init[name])])
      }
    }
    get size() { return this.#list.length }
    append(name, value) {
      this.#list.push([String(name), String(value)])
      this.#changed?.()
    }
    delete(name, value) {
      name = String(name)
      this.#list = this.#list.filter(([n, v]) => n !== name || value !== undefined && v !== String(value))
      this.#changed?.()
    }
    get(name) {
      name = String(name)
      const pair = this.#list.find(([n]) => n === name)
      return pair ? pair[1] : null
    }
    getAll(name) {
      name = String(name)
      return this.#list.filter(([n]) => n === name).map(([, v]) => v)
    }
    has(name, value) {
      name = String(name)
      return this.#list.some(([n, v]) => n === name && (value === undefined || v === String(value)))
    }
    set(name, value) {
      name = String(name)
      const first = this.#list.find(([n]) => n === name)
      if (first) {
        first[1] = String(value)
        this.#list = this.#list.filter(pair => pair === first || pair[0] !== name)
      } else {
        this.#list.push([name, String(value)])
      }
      this.#changed?.()
    }
    sort() {
      this.#list.sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0)
      this.#changed?.()
    }
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
    constructor(url, base) {
      this.#parts = parse(String(url), base === undefined ? undefined : String(base))
      if (!this.#parts) throw new TypeError("Invalid URL: " + String(url).slice(0, 200))
    }
    static canParse(url, base) { return parse(String(url), base === undefined ? undefined : String(base)) !== null }
    static parse(url, base) { return this.canParse(url, base) ? new this(url, base) : null }
    #set(part, value) {
      this.#parts = change(this.#parts[HREF], part, String(value))
      if (this.#params) refill(this.#params, this.#parts[SEARCH].slice(1))
    }
    get href() { return this.#parts[HREF] }
    set href(value) {
      const parts = parse(String(value))
      if (!parts) throw new TypeError("Invalid URL: " + String(value).slice(0, 200))
      this.#parts = parts
      if (this.#params) refill(this.#params, parts[SEARCH].slice(1))
    }
    get origin() { return this.#parts[ORIGIN] }
    get protocol() { return this.#parts[PROTOCOL] }
    set protocol(value) { this.#set("protocol", value) }
    get username() { return this.#parts[USERNAME] }
    set username(value) { this.#set("username", value) }
    get password() { return this.#parts[PASSWORD] }
    set password(value) { this.#set("password", value) }
    get host() { return this.#parts[HOST] }
    set host(value) { this.#set("host", value) }
    get hostname() { return this.#parts[HOSTNAME] }
    set hostname(value) { this.#set("hostname", value) }
    get port() { return this.#parts[PORT] }
    set port(value) { this.#set("port", value) }
    get pathname() { return this.#parts[PATHNAME] }
    set pathname(value) { this.#set("pathname", value) }
    get search() { return this.#parts[SEARCH] }
    set search(value) { this.#set("search", value) }
    get hash() { return this.#parts[HASH] }
    set hash(value) { this.#set("hash", value) }
    get searchParams() {
      if (!this.#params) {
        const params = this.#params = new URLSearchParams(this.#parts[SEARCH])
        attach(params, () => { this.#parts = change(this.#parts[HREF], "search", params.toString()) })
      }
      return this.#params
    }
    toString() { return this.#parts[HREF] }
    toJSON() { return this.#parts[HREF] }
    get [Symbol.toStringTag]() { return "URL" }
  }

  return { URL, URLSearchParams }
})
