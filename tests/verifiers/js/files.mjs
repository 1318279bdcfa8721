// Bundles on disk, for Node. The verifier itself (cortex-verify.mjs) knows no files.
import fs from "node:fs";
import path from "node:path";
import { MAX_LINE } from "./cortex-verify.mjs";

export const read = (name) => new Uint8Array(fs.readFileSync(name));

/** Lines with their newlines, read piece by piece; of one beyond the limit only the beginning. */
function* lines(names) {
  const piece = new Uint8Array(1024 * 1024);
  for (const name of names) {
    const file = fs.openSync(name, "r");
    try {
      let rest = new Uint8Array();
      for (let read; (read = fs.readSync(file, piece)) > 0; ) {
        let at = 0;
        for (let end; (end = piece.subarray(0, read).indexOf(10, at)) >= 0; at = end + 1) {
          yield rest.length ? join(rest, piece.subarray(at, end + 1)) : piece.subarray(at, end + 1);
          rest = new Uint8Array();
        }
        if (rest.length <= MAX_LINE) rest = join(rest, piece.subarray(at, read));
      }
      if (rest.length) yield rest;
    } finally {
      fs.closeSync(file);
    }
  }
}

function join(a, b) {
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}

/** A bundle in a directory. Only contents count; names give an order. */
export function bundle(dir) {
  if (!fs.statSync(dir).isDirectory()) throw new Error(`${dir} is no directory`);
  const names = (folder, ending) => {
    const full = path.join(dir, folder);
    const found = fs.existsSync(full) ? fs.readdirSync(full, "buffer") : [];
    return found.sort(Buffer.compare).map(String).filter((name) => name.endsWith(ending)).map((name) => path.join(full, name));
  };
  const optional = (name) => (fs.existsSync(path.join(dir, name)) ? read(path.join(dir, name)) : null);
  const openings = names("openings", ".txt");
  return {
    records: lines(names("records", ".ndjson")),
    openings: openings.length ? lines(openings) : null,
    checkpoints: names("checkpoints", ".note").map(read),
    head: [optional("head.note")].filter((note) => note !== null),
    frontier: optional("frontier.json"),
  };
}

/** What a bundle keeps as evidence: other histories, themselves bundles, and notes. */
export function evidence(dir) {
  const folder = path.join(dir, "evidence");
  const found = fs.existsSync(folder) ? fs.readdirSync(folder, "buffer").sort(Buffer.compare) : [];
  const paths = found.map((name) => path.join(folder, String(name)));
  return {
    branches: paths.filter((name) => fs.existsSync(path.join(name, "records"))),
    notes: paths.filter((name) => name.endsWith(".note")).map(read),
  };
}
