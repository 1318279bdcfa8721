//! Attacks on records: their bytes, form and order.

use crate::disk::{Bundle, Case};
use crate::log::*;
use cortex_audit::Leaf;
use cortex_audit::record::{Base64, Genesis};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = order();
    cases.extend(forms());
    cases.extend(envelopes());
    cases.extend(beginnings());
    cases
}

pub(crate) fn flip(body: &mut [u8], word: &str) {
    let at = body.windows(word.len()).position(|part| part == word.as_bytes()).unwrap();
    body[at] ^= 1;
}

/// Bits, deletions, insertions, swaps: of a journal whose cosigned note is untouched.
fn order() -> Vec<Case> {
    let log = Log::small();
    let other = Log::new("n2");
    let damaged = |name: &str, change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut bodies = log.bodies.clone();
        change(&mut bodies);
        Case::new(
            name,
            &log,
            vec![Bundle { records: vec![text(&bodies)], ..Bundle::of(&log, &[5]) }],
        )
    };
    let rechained = |name: &str, change: &dyn Fn(&mut Log)| {
        let mut again = Log::new("n1");
        change(&mut again);
        Case::new(
            name,
            &log,
            vec![Bundle { records: vec![again.text()], ..Bundle::of(&log, &[5]) }],
        )
    };
    let mut stranger = Log::new("n2");
    stranger.add(session());
    stranger.add(heartbeat());
    let stranger = stranger.bodies[2].clone();
    vec![
        damaged("bit-flip-in-genesis", &|b| flip(&mut b[0], "enr-1")).expect(
            1,
            "record.log",
            Some(1),
        ),
        damaged("bit-flip-in-the-middle", &|b| flip(&mut b[2], "run-7")).expect(
            1,
            "record.prev",
            Some(3),
        ),
        damaged("bit-flip-in-the-last-record", &|b| flip(&mut b[4], "0240")).expect(
            1,
            "root",
            Some(4),
        ),
        damaged("bit-flip-in-prev", &|b| {
            let body = String::from_utf8(b[3].clone()).unwrap();
            let at = body.find("\"prev\":").unwrap() + 8;
            b[3][at] = if b[3][at] == b'0' { b'1' } else { b'0' };
        })
        .expect(1, "record.prev", Some(3)),
        damaged("bit-flip-in-a-key", &|b| flip(&mut b[2], "actor")).expect(
            1,
            "record.canonical",
            Some(2),
        ),
        damaged("delete-first", &|b| drop(b.remove(0))).expect(1, "record.seq", Some(0)),
        damaged("delete-middle", &|b| drop(b.remove(2))).expect(1, "record.seq", Some(2)),
        damaged("delete-two-in-the-middle", &|b| drop(b.drain(2..4))).expect(
            1,
            "record.seq",
            Some(2),
        ),
        damaged("delete-last", &|b| drop(b.pop())).expect(5, "truncated", Some(4)),
        damaged("delete-all-but-genesis", &|b| b.truncate(1)).expect(5, "truncated", Some(1)),
        damaged("delete-all", &|b| b.clear()).expect(5, "truncated", Some(0)),
        damaged("duplicate", &|b| b.insert(2, b[2].clone())).expect(1, "record.seq", Some(3)),
        damaged("duplicate-at-the-end", &|b| b.push(b[4].clone())).expect(1, "record.seq", Some(5)),
        damaged("swap", &|b| b.swap(2, 3)).expect(1, "record.seq", Some(2)),
        damaged("insert-record-of-another-journal", &|b| b[2].clone_from(&stranger)).expect(
            1,
            "record.log",
            Some(2),
        ),
        damaged("journal-of-another-node", &|b| *b = other.bodies.clone()).expect(
            3,
            "log.unknown",
            None,
        ),
        damaged("two-journals-one-after-the-other", &|b| b.extend(log.bodies.clone())).expect(
            1,
            "record.seq",
            Some(5),
        ),
        rechained("inserted-and-chained-again", &|again| {
            again.add(session());
            again.add(heartbeat());
            again.intent("0190b2f0/1");
            again.outcome("0190b2f0/1", 3);
        })
        .expect(1, "root", Some(4)),
        rechained("rewritten-and-chained-again", &|again| {
            again.add(session());
            again.intent("0190b2f9/1");
            again.outcome("0190b2f9/1", 2);
            again.add(heartbeat());
        })
        .expect(1, "root", Some(4)),
    ]
}

/// Bodies that are not canonical, chained and signed by everybody as if they were.
fn forms() -> Vec<Case> {
    let edit = |name: &str, from: &str, to: &str| {
        let mut log = Log::small();
        log.edited(|body| {
            assert!(body.contains(from), "{name}");
            body.replacen(from, to, 1)
        });
        log.add(heartbeat());
        Case::new(name, &log, vec![Bundle::of(&log, &[7])]).expect(1, "record.canonical", Some(5))
    };
    let free = "\"free_mb\":10240";
    let boot = format!("\"{BOOT}\"");
    let cosigned = "\"cosigned\":0";
    let deep =
        |open: &str, close: &str| format!("\"cosigned\":{}0{}", open.repeat(7), close.repeat(7));
    let mut cases = vec![
        edit("space-after-colon", free, "\"free_mb\": 10240"),
        edit("space-before-the-object", "{\"boot\"", " {\"boot\""),
        edit("space-behind-the-object", "\"v\":\"cortex-audit/1\"}", "\"v\":\"cortex-audit/1\"} "),
        edit("carriage-return", "\"v\":\"cortex-audit/1\"}", "\"v\":\"cortex-audit/1\"}\r"),
        edit("tab-in-an-object", "{\"boot\"", "{\t\"boot\""),
        edit("byte-order-mark", "{\"boot\"", "\u{feff}{\"boot\""),
        edit("float", free, "\"free_mb\":10240.0"),
        edit("float-with-fraction", free, "\"free_mb\":10240.5"),
        edit("exponent", free, "\"free_mb\":1e4"),
        edit("minus-zero", free, "\"free_mb\":-0"),
        edit("leading-zero", free, "\"free_mb\":010240"),
        edit("plus-sign", free, "\"free_mb\":+10240"),
        edit("not-a-number", free, "\"free_mb\":NaN"),
        edit("infinity", free, "\"free_mb\":Infinity"),
        edit("two-to-the-53", free, "\"free_mb\":9007199254740992"),
        edit("two-to-the-53-plus-1", free, "\"free_mb\":9007199254740993"),
        edit("minus-two-to-the-53", free, "\"free_mb\":-9007199254740992"),
        edit("number-of-400-digits", free, &format!("\"free_mb\":{}", "9".repeat(400))),
        edit("lone-surrogate", free, "\"free_mb\":\"\\ud800\""),
        edit("lone-low-surrogate", free, "\"free_mb\":\"\\udc00x\""),
        edit("escaped-surrogate-pair", free, "\"free_mb\":\"\\ud83d\\ude00\""),
        edit("escaped-letter", free, "\"free_mb\":\"\\u0041\""),
        edit("escaped-slash", free, "\"free_mb\":\"\\/\""),
        edit("escape-in-upper-case", free, "\"free_mb\":\"\\u001F\""),
        edit("long-escape-of-a-newline", free, "\"free_mb\":\"\\u000a\""),
        edit("escaped-delete", free, "\"free_mb\":\"\\u007f\""),
        edit("raw-control-character", free, "\"free_mb\":\"\u{1}\""),
        edit("raw-tab-in-a-string", free, "\"free_mb\":\"\t\""),
        edit("zero-byte", free, "\"free_mb\":\"\u{0}\""),
        edit(
            "keys-out-of-order",
            "\"free_mb\":10240,\"open_intents\":0",
            "\"open_intents\":0,\"free_mb\":10240",
        ),
        edit("duplicate-key", free, "\"free_mb\":10240,\"free_mb\":10240"),
        edit("duplicate-key-with-another-value", free, "\"free_mb\":10240,\"free_mb\":1"),
        edit(
            "duplicate-envelope-key",
            "\"kind\":\"heartbeat\"",
            "\"kind\":\"heartbeat\",\"kind\":\"heartbeat\"",
        ),
        edit("upper-case-key", free, "\"Free_mb\":10240"),
        edit("key-with-a-letter-beyond-ascii", free, "\"fr\u{e9}e\":10240"),
        edit("escaped-key", free, "\"free\\u005fmb\":10240"),
        edit("empty-key", cosigned, "\"\":1,\"cosigned\":0"),
        edit("nine-lists-deep", cosigned, &deep("[", "]")),
        edit("nine-objects-deep", cosigned, &deep("{\"a\":", "}")),
        edit("ten-thousand-lists-deep", cosigned, &format!("\"cosigned\":{}", "[".repeat(10_000))),
        edit("trailing-data", "\"v\":\"cortex-audit/1\"}", "\"v\":\"cortex-audit/1\"}{}"),
        edit("trailing-comma", "\"v\":\"cortex-audit/1\"}", "\"v\":\"cortex-audit/1\",}"),
        edit("single-quotes", &boot, &format!("'{BOOT}'")),
        edit("comment", "{\"boot\"", "{/**/\"boot\""),
        edit("true-in-capitals", free, "\"free_mb\":True"),
        edit("missing-brace", "\"v\":\"cortex-audit/1\"}", "\"v\":\"cortex-audit/1\""),
    ];
    let raw = |name: &str, line: &[u8]| {
        let mut log = Log::small();
        log.push(line.to_vec());
        log.add(heartbeat());
        Case::new(name, &log, vec![Bundle::of(&log, &[7])]).expect(1, "record.canonical", Some(5))
    };
    cases.push(raw("empty-line", b""));
    cases.push(raw("not-json", b"hello"));
    cases.push(raw("invalid-utf-8", b"{\"boot\":\"\xff\"}"));
    cases.push(raw("overlong-utf-8", b"{\"boot\":\"\xc0\xaf\"}"));
    cases.push(raw("surrogate-in-utf-8", b"{\"boot\":\"\xed\xa0\x80\"}"));
    cases
}

/// Canonical bodies that are no records, chained and signed by everybody.
fn envelopes() -> Vec<Case> {
    let edit = |name: &str, code: &'static str, from: &str, to: &str| {
        let mut log = Log::small();
        log.edited(|body| {
            assert!(body.contains(from), "{name}");
            body.replacen(from, to, 1)
        });
        Case::new(name, &log, vec![Bundle::of(&log, &[6])]).expect(1, code, Some(5))
    };
    let version = "\"v\":\"cortex-audit/1\"";
    let time = "2026-11-23T13:00:02.500000Z";
    let field = "record.field";
    let at = |name: &str, t: &str| edit(name, field, time, t);
    let mut cases = vec![
        edit("version-2", "record.version", version, "\"v\":\"cortex-audit/2\""),
        edit("version-as-a-number", "record.version", version, "\"v\":1"),
        edit("no-version", "record.version", ",\"v\":\"cortex-audit/1\"", ""),
        edit("unknown-envelope-key", field, version, "\"v\":\"cortex-audit/1\",\"w\":1"),
        edit("no-boot", field, &format!("\"boot\":\"{BOOT}\","), ""),
        edit("boot-is-no-uuid", field, BOOT, "b1"),
        edit("boot-in-upper-case", field, BOOT, &BOOT.to_uppercase()),
        edit("kind-is-empty", field, "\"kind\":\"heartbeat\"", "\"kind\":\"\""),
        edit("kind-with-a-capital", field, "\"kind\":\"heartbeat\"", "\"kind\":\"Heartbeat\""),
        edit("kind-is-null", field, "\"kind\":\"heartbeat\"", "\"kind\":null"),
        edit("mono-is-negative", field, "\"mono\":4500000", "\"mono\":-1"),
        edit("seq-as-text", field, "\"seq\":5", "\"seq\":\"5\""),
        edit("data-is-a-list", field, "\"data\":{", "\"data\":[{")
            .fixed("},\"kind\"", "}],\"kind\""),
        at("time-without-fraction", "2026-11-23T13:00:02Z"),
        at("time-with-offset", "2026-11-23T13:00:02.500000+00:00"),
        at("time-in-lower-case", "2026-11-23t13:00:02.500000z"),
        at("time-on-february-30", "2026-02-30T13:00:02.500000Z"),
        at("time-on-february-29-of-2100", "2100-02-29T13:00:02.500000Z"),
        at("time-in-month-13", "2026-13-01T13:00:02.500000Z"),
        at("time-on-day-0", "2026-11-00T13:00:02.500000Z"),
        at("time-at-hour-24", "2026-11-23T24:00:00.000000Z"),
        at("time-in-a-leap-second", "2016-12-31T23:59:60.000000Z"),
        at("time-before-1970", "1969-12-31T23:59:59.999999Z"),
        at("time-in-digits-beyond-ascii", "\u{662}\u{660}26-11-23T13:00:02.500000Z"),
        edit("seq-too-high", "record.seq", "\"seq\":5", "\"seq\":6"),
        edit("log-in-upper-case", field, "\"log\":\"", "\"log\":\"A").fixed("", ""),
    ];
    let mut array = Log::small();
    array.push(b"[]".to_vec());
    cases.push(Case::new("record-is-a-list", &array, vec![Bundle::of(&array, &[6])]).expect(
        1,
        "record.version",
        Some(5),
    ));
    let mut large = Log::small();
    large.edited(|body| body.replacen("10240", &format!("\"{}\"", "x".repeat(61_440)), 1));
    cases.push(Case::new("record-too-large", &large, vec![Bundle::of(&large, &[6])]).expect(
        1,
        "record.size",
        Some(5),
    ));
    let mut cut = Bundle::of(&array, &[]);
    let log = Log::small();
    cut.records = vec![log.text()];
    cut.records[0].pop();
    cut.checkpoints = Bundle::of(&log, &[5]).checkpoints;
    cases.push(Case::new("last-line-without-newline", &log, vec![cut.clone()]).expect(
        1,
        "record.line",
        Some(4),
    ));
    cut.records[0].truncate(log.text().len() - 100);
    cases.push(Case::new("last-line-cut", &log, vec![cut]).expect(1, "record.line", Some(4)));
    cases
}

impl Case {
    /// A second change of the last record, for what takes two.
    fn fixed(mut self, from: &str, to: &str) -> Self {
        if from.is_empty() {
            return self;
        }
        let mut log = Log::small();
        let records = String::from_utf8(self.bundles[0].records[0].clone()).unwrap();
        log.push(records.lines().last().unwrap().replacen(from, to, 1).into_bytes());
        self.bundles = vec![Bundle::of(&log, &[6])];
        self
    }
}

/// First records that are none.
fn beginnings() -> Vec<Case> {
    let begin = |name: &str, genesis: Genesis| {
        let mut log = Log::empty();
        log.add(genesis);
        log.origin = cortex_audit::Origin::new(DOMAIN, "n1", log.leaves[0]).unwrap().to_string();
        log.add(session());
        Case::new(name, &log, vec![Bundle::of(&log, &[2])]).expect(1, "record.genesis", Some(0))
    };
    let good = || genesis("n1", &NODE_SEED);
    let key = |bytes: Vec<u8>| Genesis { key: Base64(bytes), ..good() };
    let mut small = vec![0; 32];
    small[0] = 1;
    // An encoding of the point of order 2 and one of order 8.
    let mut two = vec![0xff; 32];
    (two[0], two[31]) = (0xec, 0x7f);
    let eight = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05";
    let eight = Leaf::parse(eight).unwrap().as_bytes().to_vec();
    let mut beyond = vec![0xff; 32];
    (beyond[0], beyond[31]) = (0xee, 0x7f);
    let mut none = Log::empty();
    none.add(session());
    none.origin = cortex_audit::Origin::new(DOMAIN, "n1", none.leaves[0]).unwrap().to_string();
    let mut twice = Log::small();
    twice.add(good());
    vec![
        begin("node-with-a-slash", Genesis { node: "a/b".to_owned(), ..good() }),
        begin("node-with-a-space", Genesis { node: "a b".to_owned(), ..good() }),
        begin("node-with-a-wide-space", Genesis { node: "a\u{3000}b".to_owned(), ..good() }),
        begin("domain-with-a-plus", Genesis { domain: "a+b".to_owned(), ..good() }),
        begin("domain-is-empty", Genesis { domain: String::new(), ..good() }),
        begin("another-algorithm", Genesis { alg: "md5".to_owned(), ..good() }),
        begin("key-of-31-bytes", key(vec![2; 31])),
        begin("key-of-order-1", key(small)),
        begin("key-of-order-2", key(two)),
        begin("key-of-order-8", key(eight)),
        begin("key-in-a-second-spelling", key(beyond)),
        begin(
            "key-is-no-point",
            key({
                let mut bytes = vec![0; 32];
                bytes[0] = 2;
                bytes
            }),
        ),
        Case::new("no-genesis", &none, vec![Bundle::of(&none, &[1])]).expect(
            1,
            "record.genesis",
            Some(0),
        ),
        Case::new("second-genesis", &twice, vec![Bundle::of(&twice, &[6])]).expect(
            1,
            "record.genesis",
            Some(5),
        ),
    ]
}
