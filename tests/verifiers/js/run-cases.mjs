// Runs the JavaScript verifier over the vectors below a directory and prints one JSON line for each case: its name and report.
import fs from "node:fs";
import path from "node:path";
import { Usage, trustOf, verify, verifyProof } from "./cortex-verify.mjs";
import { bundle, read } from "./files.mjs";

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
