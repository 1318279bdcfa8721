#!/usr/bin/env python3
"""Runs the Python verifier over the vectors below a directory and prints one JSON line for each case: its name and report."""
import json, os, sys

import cortex_verify as v


def run(case):
    path = lambda name: os.path.join(case, name)
    read = lambda name: v.Bundle.read(path(name)) if os.path.exists(path(name)) else None
    options = json.loads(read("options.json") or b"{}")
    names = sorted(os.listdir(case))
    since = [read(name) for name in names if name.startswith("since")]
    try:
        trust = v.read_trust(
            read("policy"), since, options.get("max_age"), options.get("now"), options.get("require_openings", False)
        )
    except v.Usage:
        return {"exit": 2, "report": None}
    if "record.json" in names:
        report = v.verify_proof(read("record.json"), read("record.tlog-proof"), trust)
    else:
        report = v.verify([v.Bundle(path(name)) for name in names if name.startswith("source")], trust)
    return {"exit": report["exit"], "report": report}


for kind in ("good", "bad"):
    folder = os.path.join(sys.argv[1], kind)
    for name in sorted(os.listdir(folder)):
        print(json.dumps({"case": f"{kind}/{name}", **run(os.path.join(folder, name))}))
