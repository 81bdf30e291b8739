// structuredClone of https://html.spec.whatwg.org/#structured-cloning, for what a
// transform can hold. It walks the value with a list instead of recursion, so deep values do
// not overflow the stack. untouched returns a fresh copy of an unchanged part of the event, or
// undefined; classOf returns goja's class name. The code names only the built-ins it needs:
// goja creates each on first access.
(function (untouched, classOf) {
  const { isArray } = Array
  const { keys, getPrototypeOf, prototype } = Object
  const errors = ["EvalError", "RangeError", "ReferenceError", "SyntaxError", "TypeError", "URIError"]
  const fail = what => { throw new TypeError("structuredClone: " + what + " can't be cloned") }

  return function structuredClone(value) {
    const quick = untouched(value)
    if (quick !== undefined) return quick
    const seen = new Map()
    const todo = []

    const copy = v => {
      if (typeof v === "function") fail("a function")
      if (typeof v === "symbol") fail("a symbol")
      if (typeof v !== "object" || v === null) return v
      let made = seen.get(v)
      if (made !== undefined) return made
      made = shell(v)
      seen.set(v, made)
      return made
    }
    // shell creates the empty clone of an object, and records in todo how to fill it.
    const shell = v => {
      let made
      if (isArray(v)) {
        made = new Array(v.length)
        todo.push(v, made, members)
        return made
      }
      switch (classOf(v)) {
        case "Date": return new Date(v.getTime())
        case "RegExp": return new RegExp(v.source, v.flags)
        case "ArrayBuffer": return v.slice(0)
        case "Number": case "String": case "Boolean": return Object(v.valueOf())
        case "Error":
          made = new (errors.includes(v.name) ? globalThis[v.name] : Error)(v.message)
          Object.defineProperty(made, "stack", { value: v.stack, configurable: true, writable: true })
          if ("cause" in v) todo.push(v, made, cause)
          return made
        case "Object":
          if (getPrototypeOf(v) !== prototype) made = other(v)
          if (made === undefined) todo.push(v, made = {}, members)
          return made
      }
      fail("a " + classOf(v))
    }
    // other returns the shell of an object that is not plain; undefined for an instance of a class.
    const other = v => {
      let made
      if (v instanceof Map) todo.push(v, made = new Map(), entries)
      else if (v instanceof Set) todo.push(v, made = new Set(), items)
      else if (ArrayBuffer.isView(v)) made = new v.constructor(copy(v.buffer), v.byteOffset, v instanceof DataView ? v.byteLength : v.length)
      else if (v instanceof Promise || v instanceof WeakMap || v instanceof WeakSet) fail("a " + v.constructor.name)
      return made
    }
    const cause = (v, made) => { Object.defineProperty(made, "cause", { value: copy(v.cause), configurable: true, writable: true }) }
    const entries = (v, made) => { for (const [key, item] of v) made.set(copy(key), copy(item)) }
    const items = (v, made) => { for (const item of v) made.add(copy(item)) }
    const members = (v, made) => {
      for (const key of keys(v)) {
        if (key === "__proto__") Object.defineProperty(made, key, { value: copy(v[key]), configurable: true, enumerable: true, writable: true })
        else made[key] = copy(v[key])
      }
    }

    const clone = copy(value)
    while (todo.length) {
      const fill = todo.pop(), made = todo.pop(), v = todo.pop()
      fill(v, made)
    }
    return clone
  }
})
