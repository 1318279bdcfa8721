// Runs the JavaScript verifier over the vectors below a directory and prints one JSON line for each case: its name and report.
// With --bare the verifier gets what a browser has, and nothing of Node (needs node --experimental-vm-modules).
import fs from "node:fs";
import path from "node:path";
import vm from "node:vm";
import { bundle, read } from "./files.mjs";

const { Usage, trustOf, verify, verifyProof } = process.argv[3] === "--bare" ? await bare() : await import("./cortex-verify.mjs");

/** The verifier as a module of a realm of its own, in which only the globals of the web are. */
async function bare() {
  const { crypto, TextEncoder, TextDecoder, atob, btoa, console } = globalThis;
  const context = vm.createContext({ crypto, TextEncoder, TextDecoder, atob, btoa, console });
  const file = new URL("./cortex-verify.mjs", import.meta.url);
  const module = new vm.SourceTextModule(fs.readFileSync(file, "utf8"), { context, identifier: file.href });
  await module.link((name) => {
    throw new Error(`it wants ${name}`);
  });
  await module.evaluate();
  return module.namespace;
}

async function run(dir) {
  const names = fs.readdirSync(dir).sort();
  const optional = (name) => (names.includes(name) ? read(path.join(dir, name)) : null);
  const options = JSON.parse(names.includes("options.json") ? fs.readFileSync(path.join(dir, "options.json")) : "{}");
  let trust;
  try {
    trust = trustOf({
      policy: optional("policy"),
      since: names.filter((name) => name.startsWith("since")).map(optional),
      maxAge: options.max_age == null ? null : [options.now, options.max_age],
      requireOpenings: options.require_openings ?? false,
    });
  } catch (error) {
    if (!(error instanceof Usage)) throw error;
    return { exit: 2, report: null };
  }
  const report = names.includes("record.json")
    ? await verifyProof(optional("record.json"), optional("record.tlog-proof"), trust)
    : await verify(names.filter((name) => name.startsWith("source")).map((name) => bundle(path.join(dir, name))), trust);
  return { exit: report.exit, report };
}

for (const kind of ["good", "bad"]) {
  const folder = path.join(process.argv[2], kind);
  for (const name of fs.readdirSync(folder).sort()) {
    console.log(JSON.stringify({ case: `${kind}/${name}`, ...(await run(path.join(folder, name))) }));
  }
}
