// TextEncoder and TextDecoder of https://encoding.spec.whatwg.org, for UTF-8 alone.
(function (bytes, text) {
  class TextEncoder {
    get encoding() { return "utf-8" }
    encode(input = "") { return bytes(String(input)) }
    encodeInto(input, target) {
      let read = 0, written = 0
      for (const c of String(input)) {
        const encoded = bytes(c)
        if (written + encoded.length > target.length) break
        target.set(encoded, written)
        written += encoded.length
        read += c.length
      }
      return { read, written }
    }
  }
  class TextDecoder {
    #fatal
    #ignoreBOM
    constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
      if (!/^\s*(utf-?8|unicode-1-1-utf-8)\s*$/i.test(label)) throw new RangeError("TextDecoder: only utf-8 is supported, not " + String(label).slice(0, 50))
      this.#fatal = !!fatal
      this.#ignoreBOM = !!ignoreBOM
    }
    get encoding() { return "utf-8" }
    get fatal() { return this.#fatal }
    get ignoreBOM() { return this.#ignoreBOM }
    decode(input = new Uint8Array()) {
      const decoded = text(input, this.#fatal)
      return !this.#ignoreBOM && decoded[0] === "\ufeff" ? decoded.slice(1) : decoded
    }
  }
  return { TextEncoder, TextDecoder }
})
