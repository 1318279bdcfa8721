#!/usr/bin/env python3
"""Checks JSON lines from standard input against a JSON Schema: check_schemas.py SCHEMA [--exact]. With --exact a record may have no
field in its data that the schema does not name. Knows the keywords that our schemas use and stops at any other."""
import json, re, sys

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
SILENT = {"$schema", "$id", "$defs", "title", "description", "then", "properties", "additionalProperties"}


def errors(schema, value, root, exact, path="$"):
    if "$ref" in schema:
        target = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        yield from errors(target, value, root, exact, path)
    for word, rule in schema.items():
        bad = False
        if word == "type":
            is_int = isinstance(value, int) and not isinstance(value, bool)
            bad = not is_int if rule == "integer" else not isinstance(value, TYPES[rule])
        elif word == "const":
            bad = value != rule
        elif word == "enum":
            bad = value not in rule
        elif word == "pattern":
            bad = isinstance(value, str) and not re.search(rule, value)
        elif word in ("minimum", "maximum"):
            number = isinstance(value, int) and not isinstance(value, bool)
            bad = number and (value < rule if word == "minimum" else value > rule)
        elif word in ("minItems", "maxItems"):
            bad = isinstance(value, list) and (len(value) < rule if word == "minItems" else len(value) > rule)
        elif word == "required":
            bad = isinstance(value, dict) and any(key not in value for key in rule)
        elif word == "items":
            for index, item in enumerate(value if isinstance(value, list) else []):
                yield from errors(rule, item, root, exact, f"{path}[{index}]")
        elif word == "anyOf":
            bad = all(any(errors(option, value, root, exact, path)) for option in rule)
        elif word == "allOf":
            for part in rule:
                yield from errors(part, value, root, exact, path)
        elif word == "if":
            if not any(errors(rule, value, root, False, path)):
                yield from errors(schema["then"], value, root, exact, path)
        elif word not in SILENT and word != "$ref":
            sys.exit(f"keyword {word} is not known")
        if bad:
            yield f"{path}: {json.dumps(value)[:100]} against {word} {json.dumps(rule)[:200]}"
    if isinstance(value, dict):
        known = schema.get("properties", {})
        for key in value:
            if key in known:
                yield from errors(known[key], value[key], root, exact, f"{path}.{key}")
            elif schema.get("additionalProperties") is False or (exact and "required" in schema):
                yield f"{path}.{key} is not in the schema"


schema = json.load(open(sys.argv[1]))
failed = count = 0
for line in sys.stdin:
    count += 1
    for error in errors(schema, json.loads(line), schema, "--exact" in sys.argv):
        failed += 1
        print(error)
print(f"{count} checked, {failed} errors")
sys.exit(1 if failed or not count else 0)
