// Verifies Cortex audit journals (cortex-audit/1) without trusting Cortex: in a browser (WebCrypto with Ed25519, so a secure
// context) and in Node 18 or newer. No dependencies. Written from docs/journal-format.md, section by section.
//
// Nothing is reported as VERIFIED without a policy that you got by another way than the bundle. A page that is served by
// a server can lie about its own result: keep a copy of this file that you trust.

const subtle = (globalThis.crypto ?? (await import("node:crypto")).webcrypto).subtle;

const FORMAT = "cortex-audit/1";
const ALG = "sha256-rfc6962/ed25519";
const ZERO = "0".repeat(64);
const MAX_BODY = 60 * 1024, MAX_NOTE = 96 * 1024, MAX_POLICY = 16 * 1024 * 1024, MAX_NAME = 512;
export const MAX_LINE = 1024 * 1024;
const MAX_DEPTH = 8, MAX_SIGNATURES = 16, MAX_PROOF = 64, MAX_MEMBERS = 1024;
const MAX_TIME = 253402300799, MAX_AHEAD_S = 300;
const MAX_BOOTS = 64, MAX_CONSENTS = 65536, MAX_MISSING = 1_000_000, MAX_FINDINGS = 100, MAX_UNKNOWN_KINDS = 16;
const KINDS = new Set(
  `genesis session.open session.close intent outcome refusal recovery policy.loaded consent.asked consent.answered
  terminal.attached terminal.typed heartbeat config access redact prune key.rotate log.close`.split(/\s+/),
);
const ORDER = ["FORK", "INVALID", "ROLLBACK", "UNANCHORED", "SEMANTIC", "INCOMPLETE", "UNREADABLE", "VERIFIED"];
export const EXIT = {
  VERIFIED: 0, INVALID: 1, USAGE: 2, UNANCHORED: 3, FORK: 4, ROLLBACK: 5, INCOMPLETE: 6, SEMANTIC: 7, UNREADABLE: 8,
};
const CODES = {
  INVALID: `record.line record.size record.canonical record.version record.field record.seq record.log record.prev
    record.genesis root opening frontier differs proof`,
  UNANCHORED: `policy.none log.unknown note.none note.malformed note.origin note.unsigned note.false note.untrusted
    note.quorum`,
  FORK: "fork",
  ROLLBACK: "truncated rollback",
  INCOMPLETE: "pruned stale openings empty",
  SEMANTIC: `data outcome.unmatched outcome.hash recovery.unmatched recovery.hash intent.floor intent.denied
    intent.approval consent.unmatched consent.mismatch clock.mono clock.boot clock.future rotation closed`,
  UNREADABLE: "unreadable",
};
const VERDICT = new Map(
  Object.entries(CODES).flatMap(([verdict, codes]) => codes.split(/\s+/).map((code) => [code, verdict])),
);

/** Something is wrong, under a stable code. */
class Fault extends Error {}
/** The request cannot be answered. */
export class Usage extends Error {}

// Bytes and texts.

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

function hex(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i++) text += HEX[bytes[i]];
  return text;
}

const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const bytesOf = (binary) => Uint8Array.from(binary, (c) => c.charCodeAt(0));
const base64 = (bytes) => btoa(String.fromCharCode(...bytes));
const base64url = (bytes) => base64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

/** Bytes of base64 in its one spelling; null for all others. */
function unbase64(text) {
  try {
    const binary = atob(text);
    return btoa(binary) === text ? bytesOf(binary) : null;
  } catch {
    return null;
  }
}

function isCommitment(text) {
  if (!/^[A-Za-z0-9_-]{43}$/.test(text)) return false;
  const bytes = bytesOf(atob(text.replaceAll("-", "+").replaceAll("_", "/") + "="));
  return base64url(bytes) === text;
}

// Section 2: hashes. WebCrypto's digest is asynchronous and slow for small inputs, so SHA-256 stands here.

const START = new Uint32Array([
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
]);
const K = new Uint32Array([
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
  0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
  0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
  0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
  0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
  0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
]);
const W = new Uint32Array(64);
let buffer = new Uint8Array(MAX_BODY + 192);

/** SHA-256 of one prefix byte (none if negative) and up to two pieces. */
function sha(prefix, first, second) {
  const length = (prefix < 0 ? 0 : 1) + first.length + (second ? second.length : 0);
  const total = (((length + 8) >> 6) + 1) << 6;
  if (buffer.length < total) buffer = new Uint8Array(total * 2);
  const data = buffer;
  let at = 0;
  if (prefix >= 0) data[at++] = prefix;
  data.set(first, at);
  if (second) data.set(second, at + first.length);
  data[length] = 0x80;
  data.fill(0, length + 1, total - 8);
  const high = Math.floor(length / 2 ** 29), low = (length << 3) >>> 0;
  for (let i = 0; i < 4; i++) {
    data[total - 8 + i] = high >>> (24 - 8 * i);
    data[total - 4 + i] = low >>> (24 - 8 * i);
  }
  let [h0, h1, h2, h3, h4, h5, h6, h7] = START;
  for (let block = 0; block < total; block += 64) {
    for (let i = 0, p = block; i < 16; i++, p += 4) {
      W[i] = (data[p] << 24) | (data[p + 1] << 16) | (data[p + 2] << 8) | data[p + 3];
    }
    for (let i = 16; i < 64; i++) {
      const x = W[i - 15], y = W[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      W[i] = (W[i - 16] + s0 + W[i - 7] + s1) | 0;
    }
    let a = h0, b = h1, c = h2, d = h3, e = h4, f = h5, g = h6, h = h7;
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[i] + W[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g; g = f; f = e; e = (d + t1) | 0;
      d = c; c = b; b = a; a = (t1 + t2) | 0;
    }
    h0 = (h0 + a) | 0; h1 = (h1 + b) | 0; h2 = (h2 + c) | 0; h3 = (h3 + d) | 0;
    h4 = (h4 + e) | 0; h5 = (h5 + f) | 0; h6 = (h6 + g) | 0; h7 = (h7 + h) | 0;
  }
  const out = new Uint8Array(32);
  [h0, h1, h2, h3, h4, h5, h6, h7].forEach((word, i) => {
    out[4 * i] = word >>> 24; out[4 * i + 1] = word >>> 16; out[4 * i + 2] = word >>> 8; out[4 * i + 3] = word;
  });
  return out;
}

const leafHash = (body) => sha(0, body);
const node = (left, right) => sha(1, left, right);
const half = (n) => Math.floor(n / 2);

class Frontier {
  constructor(size = 0, hashes = []) {
    this.size = size;
    this.hashes = hashes;
  }
  push(leaf) {
    for (let size = this.size; size % 2 === 1; size = half(size)) leaf = node(this.hashes.pop(), leaf);
    this.hashes.push(leaf);
    this.size++;
  }
  root() {
    if (this.hashes.length === 0) return sha(-1, new Uint8Array());
    return this.hashes.reduceRight((right, left) => node(left, right));
  }
}

// Section 1: canonical JSON.

const KEY = /^[a-z0-9_.$]+$/, HEX64 = /^[0-9a-f]{64}$/, DECIMAL = /^(0|[1-9][0-9]*)$/;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const TIME = /^([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{6})Z$/;
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isInt = (value) => Number.isSafeInteger(value) && value >= 0;
const isText = (value, pattern) => typeof value === "string" && (!pattern || pattern.test(value));
const has = (object, key) => Object.prototype.hasOwnProperty.call(object, key);
const get = (object, key) => (has(object, key) ? object[key] : undefined);
const knownKeys = new Map();

function keyText(key) {
  let text = knownKeys.get(key);
  if (text === undefined) {
    if (!KEY.test(key)) throw new Error("key");
    text = `"${key}":`;
    if (knownKeys.size < 10_000) knownKeys.set(key, text);
  }
  return text;
}

/** The canonical text of a value; throws for what has none. */
function write(value, depth) {
  switch (typeof value) {
    case "string":
      if (/\p{Surrogate}/u.test(value)) throw new Error("lone surrogate");
      return JSON.stringify(value);
    case "number":
      if (!Number.isSafeInteger(value)) throw new Error("number");
      return String(value);
    case "boolean":
      return value ? "true" : "false";
  }
  if (value === null) return "null";
  if (depth === MAX_DEPTH) throw new Error("too deep");
  let text = "", comma = "";
  if (Array.isArray(value)) {
    for (const item of value) {
      text += comma + write(item, depth + 1);
      comma = ",";
    }
    return `[${text}]`;
  }
  for (const key of Object.keys(value).sort()) {
    text += comma + keyText(key) + write(value[key], depth + 1);
    comma = ",";
  }
  return `{${text}}`;
}

/** The value of canonical bytes; throws for all others. */
function canonical(bytes) {
  const text = decoder.decode(bytes);
  const value = JSON.parse(text);
  if (write(value, 0) !== text) throw new Error("not canonical");
  return value;
}

/** Seconds since 1970 and microseconds of an RFC 3339 time as the format writes it; null for all others. */
function readTime(text) {
  const match = typeof text === "string" ? TIME.exec(text) : null;
  if (!match) return null;
  const [year, month, day, hour, minute, second, micros] = match.slice(1).map(Number);
  const leap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  const days = [0, 31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month] ?? 0;
  if (year < 1970 || day < 1 || day > days || hour > 23 || minute > 59 || second > 59) return null;
  return [Date.UTC(year, month - 1, day, hour, minute, second) / 1000, micros];
}

// Section 5: keys, notes, policies.

const P = 2n ** 255n - 19n;
const L = 2n ** 252n + 27742317777372353535851937790883648493n;
const Y8 = number(unhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"));
const SMALL_ORDER = new Set([0n, 1n, P - 1n, Y8, P - Y8]);
const BAD_NAME = /[+\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

function number(littleEndian) {
  return BigInt("0x" + (hex(Uint8Array.from(littleEndian).reverse()) || "0"));
}

function power(base, exponent) {
  let result = 1n;
  for (base %= P; exponent > 0n; exponent >>= 1n) {
    if (exponent & 1n) result = (result * base) % P;
    base = (base * base) % P;
  }
  return result;
}

const D = (((-121665n * power(121666n, P - 2n)) % P) + P) % P;
const yOf = (point) => number(point) & (2n ** 255n - 1n);
const isName = (name) => name !== "" && !BAD_NAME.test(name) && encoder.encode(name).length <= MAX_NAME;

function isPublicKey(key) {
  if (key === null || key.length !== 32) return false;
  const y = yOf(key);
  if (y >= P || SMALL_ORDER.has(y)) return false;
  const y2 = (y * y) % P;
  const x2 = (((y2 - 1n + P) % P) * power(D * y2 + 1n, P - 2n)) % P;
  return power(x2, (P - 1n) / 2n) === 1n;
}

async function verifies(key, message, signature) {
  if (signature.length !== 64 || SMALL_ORDER.has(yOf(signature.slice(0, 32)) % P)) return false;
  if (number(signature.slice(32)) >= L) return false;
  const imported = await subtle.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]);
  return subtle.verify({ name: "Ed25519" }, imported, signature, message);
}

const keyId = (name, kind, key) =>
  hex(sha(-1, Uint8Array.from([...encoder.encode(name), 10, kind, ...key])).slice(0, 4));

/** A signed note whose text is a checkpoint. Throws if it is none. */
class Note {
  constructor(bytes) {
    if (bytes.length > MAX_NOTE) throw new Error("too large");
    const note = decoder.decode(bytes);
    const at = note.lastIndexOf("\n\n");
    if (at < 0 || !note.endsWith("\n") || at + 2 >= note.length || /[\u0000-\u0009\u000b-\u001f]/.test(note)) {
      throw new Error("form");
    }
    this.text = note.slice(0, at + 1);
    const parts = note.slice(0, at).split("\n");
    [this.origin, this.size] = [parts[0], Number(parts[1])];
    this.rootText = parts[2];
    const root = parts.length === 3 ? unbase64(parts[2]) : null;
    if (!root || root.length !== 32 || !isName(this.origin) || !DECIMAL.test(parts[1]) || !isInt(this.size)) {
      throw new Error("text");
    }
    this.root = root;
    this.lines = note.slice(at + 2, -1).split("\n").map((line) => {
      const [dash, name, signature, ...more] = line.split(" ");
      const bytes = signature === undefined ? null : unbase64(signature);
      if (dash !== "\u2014" || more.length || !isName(name) || !bytes || bytes.length < 5) throw new Error("line");
      return { name, id: hex(bytes.slice(0, 4)), bytes: bytes.slice(4) };
    });
    if (this.lines.length > MAX_SIGNATURES) throw new Error("too many signatures");
  }
  of(name, kind, key) {
    const id = keyId(name, kind, key);
    return this.lines.filter((line) => line.name === name && line.id === id).map((line) => line.bytes);
  }
  /** Throws unless the journal's key signed. */
  async checkLog(key) {
    const lines = this.of(this.origin, 1, key);
    if (lines.length === 0) throw new Fault("note.unsigned");
    const message = encoder.encode(this.text);
    for (const line of lines) if (!(await verifies(key, message, line))) throw new Fault("note.false");
  }
  /** The time of a cosignature, or null. */
  async cosigned(name, key) {
    let newest = null;
    for (const line of this.of(name, 4, key)) {
      const at = line.length < 8 ? 2n ** 64n : BigInt("0x" + hex(line.slice(0, 8)));
      const message = encoder.encode(`cosignature/v1\ntime ${at}\n${this.text}`);
      if (at > MAX_TIME || !(await verifies(key, message, line.slice(8)))) throw new Fault("note.false");
      newest = Math.max(newest ?? 0, Number(at));
    }
    return newest;
  }
}

/** A C2SP tlog-policy. Throws Usage. */
export class Policy {
  constructor(bytes) {
    this.logs = new Map();
    this.witnesses = [];
    this.members = new Map();
    this.quorum = undefined;
    this.keys = new Set();
    this.used = new Set();
    try {
      const text = decoder.decode(bytes);
      if (bytes.length > MAX_POLICY || /[\u0000-\u0008\u000b-\u001f\u007f]/.test(text) || !/(^|\n)$/.test(text)) {
        throw new Error("not a text of lines");
      }
      for (const line of text.split("\n")) {
        const items = line.split(/[ \t]/).filter((item) => item !== "");
        if (items.length && !items[0].startsWith("#")) this.line(items[0], items.slice(1));
      }
      if (this.quorum === undefined) throw new Error("no quorum");
    } catch (error) {
      throw new Usage(`the policy: ${error.message}`);
    }
  }
  line(word, items) {
    if (word === "log" && (items.length === 1 || items.length === 2)) {
      const [name, key] = this.key(items[0], 1);
      this.logs.set(name, [...(this.logs.get(name) ?? []), key]);
    } else if (word === "witness" && (items.length === 2 || items.length === 3)) {
      this.witnesses.push(this.key(items[1], 4));
      this.define(items[0], this.witnesses.length - 1);
    } else if (word === "group" && items.length >= 2) {
      const [name, threshold, ...names] = items;
      for (const member of names) {
        if (!this.members.has(member) || this.used.has(member)) throw new Error(`member ${member}`);
        this.used.add(member);
      }
      const counted = DECIMAL.test(threshold) ? Number(threshold) : 0;
      const count = threshold === "all" ? names.length : threshold === "any" ? 1 : counted;
      if (count < 1 || count > names.length) throw new Error("threshold");
      this.define(name, { count, names });
    } else if (word === "quorum" && items.length === 1 && this.quorum === undefined) {
      if (items[0] !== "none" && !this.members.has(items[0])) throw new Error(`quorum ${items[0]}`);
      this.quorum = items[0] === "none" ? null : items[0];
    } else {
      throw new Error(`line ${word}`);
    }
  }
  key(vkey, kind) {
    const [name, id, ...rest] = vkey.split("+");
    const bytes = unbase64(rest.join("+"));
    if (!rest.length || !isName(name) || !bytes || bytes[0] !== kind || !isPublicKey(bytes.slice(1))) {
      throw new Error("key");
    }
    const key = bytes.slice(1);
    if (keyId(name, kind, key) !== id || this.keys.has(hex(bytes))) throw new Error("key id, or the key a second time");
    this.keys.add(hex(bytes));
    return [name, key];
  }
  define(name, member) {
    if (name === "none" || this.members.has(name) || this.members.size >= 2 * MAX_MEMBERS) throw new Error(`name ${name}`);
    this.members.set(name, member);
  }
  logKeys(origin) {
    return this.logs.get(origin) ?? [];
  }
  /** Whether the quorum cosigned, and the latest time at or after which a whole quorum did. */
  async judge(note) {
    const times = [];
    for (const [name, key] of this.witnesses) times.push(await note.cosigned(name, key));
    if (this.quorum === null) return [true, null];
    const at = this.time(this.quorum, times);
    return [at !== null, at];
  }
  time(name, times) {
    const member = this.members.get(name);
    if (typeof member === "number") return times[member];
    const found = member.names.map((name) => this.time(name, times)).filter((at) => at !== null);
    found.sort((a, b) => b - a);
    return found[member.count - 1] ?? null;
  }
}

// Section 9: one copy of a journal.

class Findings {
  constructor() {
    this.list = [];
  }
  add(code, seq = null) {
    const known = this.list.filter((found) => found.code === code);
    if ((this.list.length < MAX_FINDINGS || known.length === 0) && !known.some((found) => found.seq === seq)) {
      this.list.push({ code, seq });
    }
  }
  has(verdict) {
    return this.list.some((found) => VERDICT.get(found.code) === verdict);
  }
}

/** The envelope and the leaf of a body. Throws Fault. */
function checkRecord(body) {
  if (body.length > MAX_BODY) throw new Fault("record.size");
  let record;
  try {
    record = canonical(body);
  } catch {
    throw new Fault("record.canonical");
  }
  if (!isObject(record) || get(record, "v") !== FORMAT) throw new Fault("record.version");
  const { log, seq, prev, kind, t, mono, boot, data } = record;
  const time = readTime(t);
  if (
    Object.keys(record).length !== 9 || !isText(log, HEX64) || !isText(prev, HEX64) || !isInt(seq) || !isInt(mono) ||
    !isText(kind, KEY) || !isText(boot, UUID) || !isObject(data) || time === null
  ) {
    throw new Fault("record.field");
  }
  const hash = leafHash(body);
  return { log, seq, prev, kind, t, time, mono, boot, data, hash, leaf: hex(hash) };
}

function need(condition) {
  if (!condition) throw new Fault("data");
}

/** A text without any character that JSON escapes: these are words and digests. */
// eslint-disable-next-line no-control-regex
const isWord = (value) => typeof value === "string" && !/["\\\u0000-\u001f]/.test(value);

class Meaning {
  constructor(start = 0) {
    this.start = this.askedFrom = this.allowedFrom = start;
    this.open = new Map();
    this.asked = new Map();
    this.allowed = new Map();
    this.boot = null;
    this.mono = 0;
    this.left = [];
    this.latest = null;
    this.closed = false;
  }
  push(record, findings) {
    if (this.closed) findings.add("closed", record.seq);
    this.clock(record, findings);
    try {
      this.kind(record, record.data);
    } catch (fault) {
      if (!(fault instanceof Fault)) throw fault;
      findings.add(fault.message, record.seq);
    }
  }
  cosigned(time, findings) {
    if (this.latest === null) return;
    const [seconds, micros] = this.latest.time;
    const ahead = seconds - (time + MAX_AHEAD_S);
    if (ahead > 0 || (ahead === 0 && micros > 0)) findings.add("clock.future", this.latest.seq);
  }
  clock(record, findings) {
    // Times of one form compare as texts.
    if (this.latest === null || record.t > this.latest.t) {
      this.latest = { t: record.t, time: record.time, seq: record.seq };
    }
    if (record.boot === this.boot) {
      if (record.mono < this.mono) findings.add("clock.mono", record.seq);
    } else {
      if (this.left.includes(record.boot)) findings.add("clock.boot", record.seq);
      if (this.boot !== null) this.left.push(this.boot);
      if (this.left.length > MAX_BOOTS) this.left.shift();
      this.boot = record.boot;
    }
    this.mono = record.mono;
  }
  kind(record, data) {
    switch (record.kind) {
      case "intent": return this.intent(record, data);
      case "outcome": return this.outcome(data);
      case "recovery": return this.recovery(data);
      case "consent.asked": return this.ask(record, data);
      case "consent.answered": return this.answer(record, data);
      case "log.close": this.closed = true;
    }
  }
  intent(record, data) {
    this.open.set(record.seq, record.leaf);
    const auth = get(data, "auth");
    need(isObject(auth) && ["allow", "ask", "deny"].includes(get(auth, "decision")));
    const { decision, floor, approval } = auth;
    need(floor === null || isInt(floor));
    need(approval === null || (isObject(approval) && isInt(approval.seq) && isText(approval.leaf, HEX64)));
    if (floor !== null && floor > record.seq) throw new Fault("intent.floor");
    if (decision === "deny") throw new Fault("intent.denied");
    if (approval === null) {
      if (decision === "ask") throw new Fault("intent.approval");
    } else if (approval.seq >= this.allowedFrom && this.allowed.get(approval.seq) !== approval.leaf) {
      throw new Fault("intent.approval");
    }
  }
  answered({ intent, intent_hash }) {
    if (intent === null && intent_hash === null) return null;
    need(isInt(intent) && isText(intent_hash, HEX64));
    return [intent, intent_hash];
  }
  outcome(data) {
    const found = this.answered(data);
    need(found !== null);
    const [seq, leaf] = found;
    if (seq < this.start) return;
    const expected = this.open.get(seq);
    this.open.delete(seq);
    if (expected === undefined) throw new Fault("outcome.unmatched");
    if (expected !== leaf) throw new Fault("outcome.hash");
  }
  recovery(data) {
    const found = this.answered(data);
    if (found === null || found[0] < this.start) return;
    const expected = this.open.get(found[0]);
    if (expected === undefined) throw new Fault("recovery.unmatched");
    if (expected !== found[1]) throw new Fault("recovery.hash");
  }
  ask(record, { shown, fingerprint }) {
    need(isWord(shown) && isWord(fingerprint));
    this.asked.set(record.seq, { leaf: record.leaf, shown, fingerprint });
    if (this.asked.size > MAX_CONSENTS) {
      const first = this.asked.keys().next().value;
      this.asked.delete(first);
      this.askedFrom = first + 1;
    }
  }
  answer(record, { asked, asked_hash, answer, shown, fingerprint }) {
    need(isInt(asked) && isText(asked_hash, HEX64) && isWord(answer) && isWord(shown) && isWord(fingerprint));
    const question = this.asked.get(asked);
    this.asked.delete(asked);
    if (question === undefined && asked >= this.askedFrom) throw new Fault("consent.unmatched");
    if (
      question !== undefined &&
      (question.leaf !== asked_hash || question.shown !== shown || question.fingerprint !== fingerprint)
    ) {
      throw new Fault("consent.mismatch");
    }
    if (answer !== "allow") return;
    this.allowed.set(record.seq, record.leaf);
    if (this.allowed.size > MAX_CONSENTS) {
      const first = this.allowed.keys().next().value;
      this.allowed.delete(first);
      this.allowedFrom = first + 1;
    }
  }
}

const same = (a, b) => hex(a) === hex(b);
const among = (keys, key) => keys.some((known) => same(known, key));

class Notes {
  constructor(trust, checkpoints, head, findings) {
    this.trust = trust;
    this.origin = null;
    this.inForce = null;
    this.rotated = null;
    this.trusted = [];
    this.roots = { size: null, found: new Set() };
    this.mismatched = new Set();
    this.signedSize = null;
    this.best = null;
    this.waiting = [];
    const given = [...checkpoints.map((bytes) => [bytes, "checkpoint"]), ...head.map((bytes) => [bytes, "head"])];
    for (const [bytes, role] of given) {
      try {
        this.waiting.push([new Note(bytes), role]);
      } catch {
        findings.add("note.malformed");
      }
    }
    this.waiting.push(...trust.since.map((note) => [note, "since"]));
    this.waiting.sort((a, b) => a[0].size - b[0].size);
    if (trust.policy === null) findings.add("policy.none");
  }
  begin(origin, key, findings) {
    if (this.trust.policy) {
      this.trusted = [...this.trust.policy.logKeys(origin)];
      if (this.trusted.length === 0) findings.add("log.unknown");
    }
    this.origin = origin;
    this.inForce = key;
  }
  originAt(size) {
    const own = this.waiting.filter(([, role]) => role === "checkpoint").map(([note]) => note);
    return (own.find((note) => note.size === size) ?? own[0])?.origin ?? null;
  }
  async rotate(old, key, pop, log, seq) {
    if (!isPublicKey(old) || !isPublicKey(key) || (this.inForce && !same(this.inForce, old))) return false;
    const text = `${FORMAT} rotate\n${log}\n${base64(old)}\n${base64(key)}\n`;
    if (!(await verifies(key, encoder.encode(text), pop))) return false;
    this.rotated = { size: seq + 1, old };
    this.inForce = key;
    return true;
  }
  due(size) {
    return this.waiting.length > 0 && this.waiting[0][0].size <= size;
  }
  async reach(size, frontier, meaning, findings) {
    // Notes below what can be reached here say nothing about these records; their signatures still must hold.
    while (this.due(size)) {
      const [note, role] = this.waiting.shift();
      await this.judge(note, role, note.size === size ? frontier.root() : null, meaning, findings);
    }
  }
  async end(size, ended, meaning, findings) {
    while (this.waiting.length > 0) {
      const [note, role] = this.waiting.shift();
      if ((await this.judge(note, role, null, meaning, findings)) && ended) {
        findings.add(role === "since" ? "rollback" : "truncated", size);
      }
    }
    for (const mismatch of [...this.mismatched].sort((a, b) => a - b)) {
      const both = this.signedSize !== null && this.signedSize >= mismatch;
      findings.add(both ? "fork" : "root", Math.max(mismatch - 1, 0));
    }
  }
  async judge(note, role, root, meaning, findings) {
    if (this.origin !== null && note.origin !== this.origin) {
      findings.add("note.origin");
      return false;
    }
    let signer;
    try {
      signer = await this.signer(note);
    } catch (fault) {
      if (!(fault instanceof Fault)) throw fault;
      findings.add(fault.message);
      return false;
    }
    if (signer === null) return false;
    if (this.roots.size !== note.size) this.roots = { size: note.size, found: new Set() };
    this.roots.found.add(note.rootText);
    if (this.roots.found.size > 1) findings.add("fork", Math.max(note.size - 1, 0));
    const fits = root !== null && same(root, note.root);
    if (fits) this.signedSize = Math.max(this.signedSize ?? 0, note.size);
    else if (root !== null) this.mismatched.add(note.size);
    if (role !== "since") {
      const [believed, at] = await this.believe(note, signer, role, findings);
      if (believed && fits) {
        const better = !this.best || note.size > this.best.size || (note.size === this.best.size && (at ?? -1) > (this.best.at ?? -1));
        if (better) this.best = { size: note.size, at };
        if (at !== null) meaning.cosigned(at, findings);
      }
    }
    if (fits && this.follows(note) && !among(this.trusted, this.inForce)) this.trusted.push(this.inForce);
    return true;
  }
  /** The note is the one that proves a rotation from a trusted key. */
  follows(note) {
    return this.rotated !== null && this.rotated.size === note.size && among(this.trusted, this.rotated.old);
  }
  /** The key that signed; null if there is none to verify with. Throws Fault. */
  async signer(note) {
    if (this.inForce !== null) {
      if (this.rotated !== null && this.rotated.size === note.size) await note.checkLog(this.rotated.old);
      await note.checkLog(this.inForce);
      return this.inForce;
    }
    const keys = this.trust.policy?.logKeys(note.origin) ?? [];
    if (keys.length === 0) return null;
    let signer = null;
    for (const key of keys) {
      try {
        await note.checkLog(key);
        signer = key;
      } catch (fault) {
        if (!(fault instanceof Fault) || fault.message === "note.false") throw fault;
      }
    }
    if (signer === null) throw new Fault("note.unsigned");
    return signer;
  }
  async believe(note, signer, role, findings) {
    if (this.trust.policy === null) return [false, null];
    if (this.origin !== null && !among(this.trusted, signer) && !this.follows(note)) {
      if (this.trusted.length > 0) findings.add("note.untrusted");
      return [false, null];
    }
    let judged;
    try {
      judged = await this.trust.policy.judge(note);
    } catch (fault) {
      if (!(fault instanceof Fault)) throw fault;
      findings.add(fault.message);
      return [false, null];
    }
    if (!judged[0] && role === "checkpoint") findings.add("note.quorum");
    return judged;
  }
}

function commitments(value, found) {
  if (Array.isArray(value)) value.forEach((item) => commitments(item, found));
  if (!isObject(value)) return;
  const keys = Object.keys(value);
  if (keys.length === 1 && keys[0] === "$c" && isText(value.$c) && isCommitment(value.$c)) found.push(value.$c);
  else keys.sort().forEach((key) => commitments(value[key], found));
}

class Openings {
  constructor(lines, required) {
    this.lines = lines;
    this.required = required;
    this.next = null;
    this.missing = new Map();
    this.opened = this.redacted = 0;
  }
  async push(seq, data, findings) {
    const given = [];
    while ((await this.fill(findings)) && this.next.seq <= seq) {
      if (this.next.seq === seq) given.push(this.next.commitment);
      else findings.add("opening", this.next.seq);
      this.next = null;
    }
    if (given.length === 0 && !this.required) return;
    const made = [];
    commitments(data, made);
    for (const commitment of given) {
      if (made.includes(commitment)) this.opened++;
      else findings.add("opening", seq);
    }
    if (!this.required) return;
    for (const commitment of made) {
      if (!given.includes(commitment) && !this.missing.has(commitment) && this.missing.size < MAX_MISSING) {
        this.missing.set(commitment, seq);
      }
    }
  }
  redact(names) {
    this.redacted += names.length;
    names.forEach((name) => this.missing.delete(name));
  }
  async end(findings) {
    while (await this.fill(findings)) {
      findings.add("opening", this.next.seq);
      this.next = null;
    }
    let first = Infinity;
    for (const seq of this.missing.values()) first = Math.min(first, seq);
    if (first !== Infinity) findings.add("openings", first);
  }
  async fill(findings) {
    if (this.next !== null || this.lines === null) return this.next !== null;
    const { value: line, done } = await this.lines.next();
    if (done) {
      this.lines = null;
      return false;
    }
    const binary = line.length <= MAX_LINE + 1 ? Array.from(line, (byte) => String.fromCharCode(byte)).join("") : "";
    const match = /^(0|[1-9][0-9]{0,15}) ([A-Za-z0-9_-]+)\n$/.exec(binary);
    if (!match || !isInt(Number(match[1]))) {
      findings.add("opening");
      this.lines = null;
      return false;
    }
    this.next = { seq: Number(match[1]), commitment: base64url(sha(-1, encoder.encode(match[2]))) };
    return true;
  }
}

/** One copy while it is read. */
class Run {
  constructor(source, trust) {
    this.trust = trust;
    this.findings = new Findings();
    this.records = source.records;
    this.openings = new Openings(source.openings ?? null, trust.requireOpenings);
    this.notes = new Notes(trust, source.checkpoints, source.head, this.findings);
    this.meaning = new Meaning();
    this.frontier = new Frontier();
    this.start = this.seq = 0;
    this.log = this.prev = ZERO;
    this.state = "reading";
    this.unknownKinds = new Map();
  }
  static async open(source, trust) {
    const run = new Run(source, trust);
    if (source.frontier) await run.beginPruned(source.frontier);
    return run;
  }
  stop(code, seq = null) {
    this.findings.add(code, seq);
    this.state = "stopped";
  }
  async beginPruned(bytes) {
    let size, leaf, hashes;
    try {
      const value = canonical(bytes.at(-1) === 10 ? bytes.subarray(0, -1) : bytes);
      if (!isObject(value) || Object.keys(value).length !== 3) throw new Error("keys");
      ({ size, leaf } = value);
      hashes = value.hashes.map((text) => unbase64(text));
      const ones = BigInt(size).toString(2).replaceAll("0", "").length;
      const fits = isInt(size) && size > 0 && isText(leaf, HEX64) && ones === hashes.length;
      if (!fits || hashes.some((h) => h === null || h.length !== 32)) throw new Error("form");
      if (size % 2 === 1 && hex(hashes.at(-1)) !== leaf) throw new Error("leaf");
    } catch {
      return this.stop("frontier");
    }
    this.start = this.seq = size;
    this.prev = leaf;
    this.meaning = new Meaning(size);
    this.frontier = new Frontier(size, hashes);
    const origin = this.notes.originAt(size);
    if (origin === null) return this.findings.add("pruned");
    this.notes.begin(origin, null, this.findings);
    await this.notes.reach(size, this.frontier, this.meaning, this.findings);
    if (this.notes.best?.size !== size) this.findings.add("pruned");
  }
  /** Reads the next record and returns its leaf; null if there is none. */
  async step() {
    let line;
    try {
      const next = this.records.next();
      line = next instanceof Promise ? await next : next;
    } catch {
      this.stop("unreadable");
      return null;
    }
    if (line.done) {
      this.state = "ended";
      return null;
    }
    try {
      const record = this.record(line.value);
      await this.openings.push(record.seq, record.data, this.findings);
      await this.special(record);
      if (this.notes.due(this.seq)) await this.notes.reach(this.seq, this.frontier, this.meaning, this.findings);
      return record.leaf;
    } catch (fault) {
      if (!(fault instanceof Fault)) throw fault;
      this.stop(fault.message, this.seq);
      return null;
    }
  }
  record(line) {
    const { seq } = this;
    if (line.at(-1) !== 10) throw new Fault("record.line");
    const record = checkRecord(line.subarray(0, -1));
    const first = seq === this.start;
    if (record.seq !== seq) throw new Fault("record.seq");
    if (record.log !== this.log && !(first && this.start > 0)) throw new Fault("record.log");
    if (record.prev !== this.prev) throw new Fault("record.prev");
    if ((record.kind === "genesis") !== (seq === 0)) throw new Fault("record.genesis");
    if (seq === 0) this.notes.begin(...genesis(record.data, record.leaf), this.findings);
    else if (first && !fitsOrigin(this.notes.origin, record.log)) throw new Fault("record.log");
    this.log = seq === 0 ? record.leaf : record.log;
    this.seq = seq + 1;
    this.prev = record.leaf;
    this.frontier.push(record.hash);
    this.meaning.push(record, this.findings);
    if (!KINDS.has(record.kind) && (this.unknownKinds.has(record.kind) || this.unknownKinds.size < MAX_UNKNOWN_KINDS)) {
      this.unknownKinds.set(record.kind, (this.unknownKinds.get(record.kind) ?? 0) + 1);
    }
    return record;
  }
  async special({ kind, data, seq }) {
    if (kind === "redact") {
      const names = get(data, "commitments");
      if (Array.isArray(names) && names.every((name) => isText(name))) this.openings.redact(names);
      else this.findings.add("data", seq);
    } else if (kind === "key.rotate") {
      const keys = ["old", "new", "pop"].map((key) => (isText(get(data, key)) ? unbase64(data[key]) : null));
      if (keys.includes(null)) this.findings.add("data", seq);
      else if (!(await this.notes.rotate(...keys, this.log, seq))) this.findings.add("rotation", seq);
    }
  }
  async end() {
    const ended = this.state === "ended";
    if (ended && this.seq === this.start) this.findings.add("empty");
    if (ended) await this.openings.end(this.findings);
    if (this.seq === 0) await this.notes.reach(0, this.frontier, this.meaning, this.findings);
    await this.notes.end(this.seq, ended, this.meaning, this.findings);
    if (!ended) return;
    if (this.notes.best === null && !this.findings.has("UNANCHORED")) this.findings.add("note.none");
    if (this.trust.maxAge) {
      const [now, age] = this.trust.maxAge;
      const at = this.notes.best?.at ?? null;
      if (at === null || now - at > age) this.findings.add("stale");
    }
  }
  report() {
    const { findings, notes } = this;
    const read = this.seq > this.start, done = this.state === "ended", best = notes.best;
    const word = (verdict, bad, known) => (findings.has(verdict) ? bad : known ? "ok" : "unknown");
    const kinds = [...this.unknownKinds].map(([kind, count]) => ({ kind, count }));
    return sourceReport(findings, {
      log: read && this.log !== ZERO ? this.log : null,
      origin: notes.origin,
      range: [this.start, this.seq],
      integrity: word("INVALID", "invalid", read && done),
      authenticity: findings.has("FORK") ? "fork" : word("UNANCHORED", "unanchored", best !== null),
      freshness: {
        verdict: word("ROLLBACK", "rollback", done && best !== null),
        cosigned_size: best?.size ?? null,
        signed_size: notes.signedSize,
        at: best?.at ?? null,
        tail_uncosigned: this.seq - (best?.size ?? this.start),
      },
      completeness: word("INCOMPLETE", "incomplete", done),
      semantics: word("SEMANTIC", "contradiction", read),
      opened: this.openings.opened,
      redacted: this.openings.redacted,
      unknown_kinds: kinds.sort((a, b) => (a.kind < b.kind ? -1 : 1)),
    });
  }
}

/** Origin and key that a genesis commits to. Throws Fault. */
function genesis(data, leaf) {
  const { domain, node: host, pub, alg } = data;
  const key = isText(pub) ? unbase64(pub) : null;
  const origin = `${domain}/audit/${host}/${leaf.slice(0, 32)}`;
  const plain = (part) => isText(part) && part !== "" && !part.includes("/");
  if (alg !== ALG || !plain(domain) || !plain(host) || !isName(origin) || !isPublicKey(key)) {
    throw new Fault("record.genesis");
  }
  return [origin, key];
}

const fitsOrigin = (origin, log) => origin === null || origin.endsWith(`/${log.slice(0, 32)}`);
const worst = (verdicts) => ORDER.find((verdict) => verdicts.includes(verdict)) ?? "VERIFIED";

function sourceReport(findings, report) {
  const bad = findings.list.filter((found) => VERDICT.get(found.code) === "INVALID");
  const rank = (found) => found.seq ?? Infinity;
  report.first_bad = bad.length ? bad.reduce((a, b) => (rank(b) < rank(a) ? b : a)) : null;
  report.verdict = worst(findings.list.map((found) => VERDICT.get(found.code)));
  report.findings = findings.list;
  return report;
}

function whole(sources, compared) {
  const verdicts = sources.map((source) => source.verdict);
  if (compared?.finding) verdicts.push(VERDICT.get(compared.finding.code));
  const verdict = sources.length ? worst(verdicts) : "UNREADABLE";
  return { schema: "cortex-audit-verify/1", verdict, exit: EXIT[verdict], sources, compared };
}

/**
 * Whom and what to believe. `since` are the bytes of notes seen before; `maxAge` is [now, seconds]. Throws Usage.
 */
export function trustOf({ policy = null, since = [], evidence = [], maxAge = null, requireOpenings = false } = {}) {
  let notes;
  try {
    notes = since.map((bytes) => new Note(bytes));
  } catch (error) {
    throw new Usage(`the checkpoint seen before: ${error.message}`);
  }
  // Notes that a bundle keeps as evidence: what is none proves nothing.
  for (const bytes of evidence) {
    try {
      notes.push(new Note(bytes));
    } catch {}
  }
  return { policy: policy === null ? null : new Policy(policy), since: notes, maxAge, requireOpenings };
}

/**
 * Verifies one or more copies of a journal. A source has `records` and `openings` (iterators, also asynchronous ones, of lines
 * with their newlines, as Uint8Array), `checkpoints` and `head` (lists of bytes), `frontier` (bytes, if pruned).
 */
export async function verify(sources, trust) {
  const runs = [];
  for (const source of sources) runs.push(await Run.open(source, trust));
  const differences = runs.map(() => null);
  for (;;) {
    const reading = runs.filter((run) => run.state === "reading");
    if (reading.length === 0) break;
    const seq = Math.min(...reading.map((run) => run.seq));
    let first = null;
    for (const [i, run] of runs.entries()) {
      if (run.state !== "reading" || run.seq !== seq) continue;
      const leaf = await run.step();
      if (leaf === null) continue;
      first ??= leaf;
      if (leaf !== first) differences[i] ??= seq;
    }
  }
  for (const run of runs) await run.end();
  return whole(runs.map((run) => run.report()), runs.length > 1 ? compare(runs, differences) : null);
}

function compare(runs, differences) {
  const shortest = runs.reduce((a, b) => (b.seq < a.seq ? b : a));
  const known = differences.filter((seq) => seq !== null);
  const signed = (run, seq) => run.notes.signedSize !== null && run.notes.signedSize > seq;
  const forked = runs.some((run, i) => {
    const seq = differences[i];
    return seq !== null && run.notes.origin === runs[0].notes.origin && signed(runs[0], seq) && signed(run, seq);
  });
  return {
    size: shortest.seq,
    root: known.length ? null : base64(shortest.frontier.root()),
    finding: known.length ? { code: forked ? "fork" : "differs", seq: Math.min(...known) } : null,
  };
}

// Section 7: the proof of one record.

function readProof(bytes) {
  const text = decoder.decode(bytes);
  const at = text.indexOf("\n\n");
  const [header, index, ...hashes] = text.slice(0, Math.max(at, 0)).split("\n");
  const match = /^index (0|[1-9][0-9]{0,15})$/.exec(index ?? "");
  const raw = hashes.map((hash) => unbase64(hash));
  if (header !== "c2sp.org/tlog-proof@v1" || !match || !isInt(Number(match[1])) || raw.length > MAX_PROOF) {
    throw new Error("form");
  }
  if (raw.some((hash) => hash === null || hash.length !== 32)) throw new Error("hash");
  const noteBytes = encoder.encode(text.slice(at + 2));
  return { index: Number(match[1]), hashes: raw, note: new Note(noteBytes), noteBytes };
}

function checkInclusion(leaf, index, { size, root }, hashes) {
  if (index >= size) throw new Fault("proof");
  let at = index, last = size - 1, found = leaf;
  for (const sibling of hashes) {
    if (last === 0) throw new Fault("proof");
    if (at % 2 === 1 || at === last) {
      found = node(sibling, found);
      while (at % 2 === 0 && at !== 0) [at, last] = [half(at), half(last)];
    } else {
      found = node(found, sibling);
    }
    [at, last] = [half(at), half(last)];
  }
  if (last !== 0 || !same(found, root)) throw new Fault("proof");
}

/** Verifies that a body is the record that a `.tlog-proof` speaks of. */
export async function verifyProof(body, bytes, trust) {
  const findings = new Findings();
  const freshness = { verdict: "unknown", cosigned_size: null, signed_size: null, at: null, tail_uncosigned: 0 };
  const report = {
    log: null, origin: null, range: [0, 0], opened: 0, redacted: 0, unknown_kinds: [], freshness,
    completeness: "partial", semantics: "unknown",
  };
  let proof = null;
  try {
    proof = readProof(bytes);
  } catch {
    findings.add("proof");
  }
  if (proof !== null) {
    const { index, hashes, note, noteBytes } = proof;
    report.origin = note.origin;
    report.range = [index, index + 1];
    try {
      const record = checkRecord(body);
      report.log = record.seq === 0 ? record.leaf : record.log;
      if (record.seq !== index) throw new Fault("record.seq");
      if (!fitsOrigin(note.origin, report.log)) throw new Fault("record.log");
      checkInclusion(record.hash, index, note, hashes);
    } catch (fault) {
      if (!(fault instanceof Fault)) throw fault;
      findings.add(fault.message, index);
    }
    const notes = new Notes({ ...trust, since: [] }, [noteBytes], [], findings);
    notes.begin(note.origin, null, findings);
    await notes.reach(note.size, { root: () => note.root }, new Meaning(), findings);
    freshness.signed_size = notes.signedSize;
    if (notes.best) Object.assign(freshness, { verdict: "ok", cosigned_size: notes.best.size, at: notes.best.at });
  }
  const known = freshness.cosigned_size !== null ? "ok" : "unknown";
  report.authenticity = findings.has("UNANCHORED") ? "unanchored" : known;
  report.integrity = findings.has("INVALID") ? "invalid" : "ok";
  return whole([sourceReport(findings, report)], null);
}

/** The lines of some bytes, each with its newline. */
export function* linesOf(bytes) {
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(10, at);
    const next = end < 0 ? bytes.length : end + 1;
    yield bytes.subarray(at, next);
    at = next;
  }
}
