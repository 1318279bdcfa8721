//! An operation on files, as JSON: the fields of the contract that matter for it.

use super::{Bytes, hex};
use cortex_model::FileOp;
use serde_json::{Value, json};

/// The operation's name and its fields.
pub(super) fn of(op: Option<&FileOp>) -> (&'static str, Value) {
    let Some(op) = op else { return ("unknown", Value::Null) };
    let digest = |bytes: &[u8]| (!bytes.is_empty()).then(|| hex(bytes));
    match op {
        FileOp::Read(r) => {
            let (offset, length) = (r.offset, r.length);
            (
                "read",
                json!({"offset": offset, "length": length, "expect_version": r.expect_version}),
            )
        }
        FileOp::Write(w) => (
            "write",
            json!({
                "content": Bytes(w.content.clone()), "expect_sha256": digest(&w.expect_sha256), "mode": w.mode,
                "new_only": w.new_only, "parents": w.parents,
            }),
        ),
        FileOp::Edit(e) => {
            let one = |r: &cortex_model::proto::FileReplacement| json!({"old": Bytes(r.old.clone()), "new": Bytes(r.new.clone()), "count": r.count});
            let replace: Vec<Value> = e.replace.iter().map(one).collect();
            let diff = Bytes(e.diff.clone());
            (
                "edit",
                json!({"replace": replace, "diff": diff, "expect_sha256": digest(&e.expect_sha256)}),
            )
        }
        FileOp::List(l) => ("list", json!({"limit": l.limit})),
        FileOp::Stat(s) => ("stat", json!({"sha256": s.sha256, "link": s.link})),
        FileOp::Glob(g) => {
            ("glob", json!({"patterns": g.patterns, "all": g.all, "limit": g.limit}))
        }
        FileOp::Search(s) => (
            "search",
            json!({
                "pattern": s.pattern, "literal": s.literal, "ignore_case": s.ignore_case, "globs": s.globs,
                "all": s.all, "context": s.context, "limit": s.limit,
            }),
        ),
        FileOp::Delete(d) => {
            let expect = digest(&d.expect_sha256);
            let (recursive, missing_ok) = (d.recursive, d.missing_ok);
            (
                "delete",
                json!({"recursive": recursive, "expect_sha256": expect, "missing_ok": missing_ok}),
            )
        }
        FileOp::Move(m) => {
            let (to, expect) = (Bytes(m.to.clone()), digest(&m.expect_sha256));
            ("move", json!({"to": to, "replace": m.replace, "expect_sha256": expect}))
        }
        FileOp::Receive(r) => ("receive", json!({"size": r.size, "sha256": hex(&r.sha256)})),
        FileOp::Chunk(c) => {
            let (offset, bytes) = (c.offset, c.data.len());
            (
                "chunk",
                json!({"part": c.part, "offset": offset, "bytes": bytes, "sha256": hex(&c.sha256)}),
            )
        }
        FileOp::Finish(f) => {
            let (size, sha256, mode) = (f.size, hex(&f.sha256), f.mode);
            ("finish", json!({"part": f.part, "size": size, "sha256": sha256, "mode": mode}))
        }
    }
}
