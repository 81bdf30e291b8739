// Types for Switchhook transforms, written by `switchhook types`. Do not edit: run it again.
//
// A transform is a pure function: it has no network, no files and no timers; its clock
// and its random numbers come from the event, so that a retry sends the same bytes.

/**
 * The types of `event.data`, by the name of the event type. `switchhook types --server URL`
 * writes them from the schemas of the event types that are registered there.
 */
interface SwitchhookEvents {}

/** The name of an event type: any text as long as no types of `event.data` are known. */
type SwitchhookEventName = [keyof SwitchhookEvents] extends [never] ? string : Extract<keyof SwitchhookEvents, string>

/** The type of `event.data` of an event type; `any` where it is not known. */
type SwitchhookData<T> = T extends keyof SwitchhookEvents ? SwitchhookEvents[T] : any

/** The first argument of a transform. Changing it changes nothing outside the run. */
interface SwitchhookEvent<T extends SwitchhookEventName = any> {
  /** The event's id, such as `evt_3a5jQ9`; the same in every retry and replay. */
  readonly id: string
  /** The event type, such as `order.created`. */
  readonly type: T
  /** The account that the event belongs to. */
  readonly account: string
  /** When it happened, as its publisher says: an ISO 8601 time in UTC. */
  readonly time: string
  /** Headers that came with the event. */
  readonly headers: Record<string, string | undefined>
  /** The payload. Integers beyond 2^53 are bigints and are sent with all their digits. */
  data: SwitchhookData<T>
}

/** An event of any of the known types; `event.type` tells which. */
type SwitchhookAnyEvent = { [T in SwitchhookEventName]: SwitchhookEvent<T> }[SwitchhookEventName]

/** The second argument of a transform: the request that will be made. The host is the subscription's. */
interface SwitchhookRequest {
  /** POST unless it is changed. */
  method: "POST" | "PUT" | "PATCH" | "DELETE"
  /** Starts with one `/` and is escaped: use `encodeURIComponent` for its parts. */
  path: string
  /** Parameters, decoded; an array for one that stands more than once, `undefined` to remove it. */
  query: Record<string, SwitchhookValue | SwitchhookValue[]>
  /** Headers besides those that the router sets itself; `undefined` removes one. */
  headers: Record<string, SwitchhookValue>
}

/** What a header or a query parameter may be set to. */
type SwitchhookValue = string | number | boolean | null | undefined

/**
 * What a transform may return: anything with a JSON form becomes the body, a string is sent
 * as it is. `undefined` is not allowed: it is most often a forgotten `return`.
 */
type SwitchhookBody = string | number | bigint | boolean | null | object

/** The type of a transform, for `export default ((event, request) => …) satisfies SwitchhookTransform`. */
type SwitchhookTransform<T extends SwitchhookEventName = any> =
  (event: SwitchhookEvent<T>, request: SwitchhookRequest) => SwitchhookBody | Promise<SwitchhookBody>

/**
 * Does not send the event; the delivery is recorded as dropped, with the reason. It ends
 * the transform at once.
 */
declare function drop(reason?: string): never

/** What is logged is kept with the delivery: 100 lines and 16 KiB of a run. */
declare var console: {
  log(...values: unknown[]): void
  info(...values: unknown[]): void
  warn(...values: unknown[]): void
  error(...values: unknown[]): void
  debug(...values: unknown[]): void
}

/** Text, which stands for its UTF-8 bytes, or bytes; at most 1 MiB. */
type SwitchhookBytes = string | Uint8Array | ArrayBuffer

declare var crypto: {
  /** The SHA-256 of data. */
  sha256(data: SwitchhookBytes, encoding?: "hex" | "base64" | "base64url"): string
  sha256(data: SwitchhookBytes, encoding: "bytes"): Uint8Array
  /** The HMAC (RFC 2104) of data. */
  hmac(algorithm: "sha256" | "sha1" | "sha512", key: SwitchhookBytes, data: SwitchhookBytes, encoding?: "hex" | "base64" | "base64url"): string
  hmac(algorithm: "sha256" | "sha1" | "sha512", key: SwitchhookBytes, data: SwitchhookBytes, encoding: "bytes"): Uint8Array
}

declare var base64: {
  /** Base64 of data; with "url" in the alphabet for URLs and without padding. */
  encode(data: SwitchhookBytes, variant?: "url"): string
  /** The UTF-8 text, or the bytes, that text stands for, in either alphabet. Throws for what is no base64. */
  decode(text: string, as?: "text"): string
  decode(text: string, as: "bytes"): Uint8Array
}

declare var hex: {
  /** Hexadecimal digits of data, in lower case. */
  encode(data: SwitchhookBytes): string
  /** The UTF-8 text, or the bytes, that text stands for. Throws for what is no hexadecimal. */
  decode(text: string, as?: "text"): string
  decode(text: string, as: "bytes"): Uint8Array
}

/** Base64 of a text whose characters are bytes (up to U+00FF); `base64.encode` takes any text. */
declare function btoa(data: string): string
/** The text, a character for each byte, that a base64 text stands for. */
declare function atob(text: string): string

/**
 * Formats a date. Letters of the layout are tokens: yyyy yy · MMMM MMM MM M · dd d · EEEE EEE ·
 * HH H hh h a · mm m · ss s SSS · XXX (+02:00) xx (+0200) z (CEST); text between apostrophes
 * stands for itself. Names are English.
 * @param date a Date, an ISO 8601 text (UTC unless it says otherwise) or milliseconds since 1970
 * @param timeZone an IANA name such as `Europe/Berlin`; UTC if left out
 * @example formatDate(event.time, "dd.MM.yyyy HH:mm", "Europe/Berlin")
 */
declare function formatDate(date: Date | string | number, layout: string, timeZone?: string): string

/** A deep copy of plain data, Date, Map, Set, typed arrays and errors; cycles are kept. */
declare function structuredClone<T>(value: T): T

/** A URL, as in browsers. */
interface URL {
  href: string
  readonly origin: string
  protocol: string
  username: string
  password: string
  host: string
  hostname: string
  port: string
  pathname: string
  search: string
  readonly searchParams: URLSearchParams
  hash: string
  toString(): string
  toJSON(): string
}
declare var URL: {
  new (url: string | URL, base?: string | URL): URL
  canParse(url: string | URL, base?: string | URL): boolean
  parse(url: string | URL, base?: string | URL): URL | null
}

/** The parameters of a query, as in browsers. */
interface URLSearchParams {
  readonly size: number
  append(name: string, value: unknown): void
  delete(name: string, value?: unknown): void
  get(name: string): string | null
  getAll(name: string): string[]
  has(name: string, value?: unknown): boolean
  set(name: string, value: unknown): void
  sort(): void
  forEach(callback: (value: string, name: string, params: URLSearchParams) => void): void
  entries(): IterableIterator<[string, string]>
  keys(): IterableIterator<string>
  values(): IterableIterator<string>
  [Symbol.iterator](): IterableIterator<[string, string]>
  toString(): string
}
declare var URLSearchParams: {
  new (init?: string | Record<string, unknown> | Iterable<readonly [string, unknown]> | URLSearchParams): URLSearchParams
}

/** Text to UTF-8 bytes. */
interface TextEncoder {
  readonly encoding: "utf-8"
  encode(input?: string): Uint8Array
  encodeInto(input: string, target: Uint8Array): { read: number; written: number }
}
declare var TextEncoder: {
  new (): TextEncoder
}

/** UTF-8 bytes to text; other encodings are not supported. */
interface TextDecoder {
  readonly encoding: "utf-8"
  readonly fatal: boolean
  readonly ignoreBOM: boolean
  decode(input?: Uint8Array | ArrayBuffer): string
}
declare var TextDecoder: {
  new (label?: "utf-8" | "utf8", options?: { fatal?: boolean; ignoreBOM?: boolean }): TextDecoder
}

/** All helpers, to import instead of using the globals. There are no other modules. */
declare module "switchhook" {
  export function drop(reason?: string): never
  export const crypto: typeof globalThis.crypto
  export const base64: typeof globalThis.base64
  export const hex: typeof globalThis.hex
  export const btoa: typeof globalThis.btoa
  export const atob: typeof globalThis.atob
  export const formatDate: typeof globalThis.formatDate
  export const structuredClone: typeof globalThis.structuredClone
  export const URL: typeof globalThis.URL
  export type URL = globalThis.URL
  export const URLSearchParams: typeof globalThis.URLSearchParams
  export type URLSearchParams = globalThis.URLSearchParams
  export const TextEncoder: typeof globalThis.TextEncoder
  export type TextEncoder = globalThis.TextEncoder
  export const TextDecoder: typeof globalThis.TextDecoder
  export type TextDecoder = globalThis.TextDecoder
}
declare module "switchhook:crypto" {
  export const sha256: typeof crypto.sha256
  export const hmac: typeof crypto.hmac
}
declare module "switchhook:base64" {
  export const encode: typeof base64.encode
  export const decode: typeof base64.decode
}
declare module "switchhook:hex" {
  export const encode: typeof hex.encode
  export const decode: typeof hex.decode
}
