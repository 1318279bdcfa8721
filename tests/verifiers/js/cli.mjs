#!/usr/bin/env node
// node cli.mjs --policy POLICY [--since NOTE]... [--max-age S] [--now UNIX] [--require-openings] BUNDLE...
// node cli.mjs --policy POLICY --proof RECORD.tlog-proof RECORD.json
// Prints the report as JSON; the exit code is the verdict.
import { EXIT, Usage, trustOf, verify, verifyProof } from "./cortex-verify.mjs";
import { bundle, evidence, read } from "./files.mjs";

const given = { since: [], bundles: [] };
const args = process.argv.slice(2);
while (args.length) {
  const arg = args.shift();
  if (arg === "--since") given.since.push(args.shift());
  else if (arg === "--require-openings") given.open = true;
  else if (arg.startsWith("--")) given[arg.slice(2)] = args.shift();
  else given.bundles.push(arg);
}
try {
  const age = given["max-age"] === undefined ? null : [Number(given.now ?? Math.floor(Date.now() / 1000)), Number(given["max-age"])];
  const kept = given.proof ? [] : given.bundles.map(evidence);
  const trust = trustOf({
    evidence: kept.flatMap((of) => of.notes),
    policy: given.policy ? read(given.policy) : null,
    since: given.since.map(read),
    maxAge: age,
    requireOpenings: given.open ?? false,
  });
  const withoutNewline = (body) => (body.at(-1) === 10 ? body.subarray(0, -1) : body);
  const report = given.proof
    ? await verifyProof(withoutNewline(read(given.bundles[0])), read(given.proof), trust)
    : await verify([...given.bundles, ...kept.flatMap((of) => of.branches)].map(bundle), trust);
  console.log(JSON.stringify(report));
  process.exitCode = report.exit;
} catch (error) {
  console.error(error.message);
  process.exitCode = error instanceof Usage ? EXIT.USAGE : EXIT.UNREADABLE;
}
