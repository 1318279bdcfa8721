//! Spools against real files: order, offsets, limits, restarts and torn ends.

use super::*;
use std::os::unix::fs::FileExt;

fn key(task: &str) -> AttemptKey {
    let task = TaskId::parse(task).unwrap();
    AttemptKey { task: TaskKey { workspace: Workspace::default_workspace(), task }, attempt: 3 }
}

fn all(spool: &Spool, max: usize) -> Vec<(Stream, Vec<u8>)> {
    let mut out: Vec<(Stream, Vec<u8>)> = Vec::new();
    let mut offset = 0;
    while let Some(chunk) = spool.read(offset, max).unwrap() {
        assert_eq!(chunk.offset, offset);
        assert!((1..=max).contains(&chunk.data.len()));
        offset += chunk.data.len() as u64;
        match out.last_mut() {
            Some((stream, data)) if *stream == chunk.stream => data.extend_from_slice(&chunk.data),
            _ => out.push((chunk.stream, chunk.data.to_vec())),
        }
    }
    assert_eq!(offset, spool.end());
    out
}

fn sha256(data: &[u8]) -> Vec<u8> {
    Sha256::digest(data).to_vec()
}

#[test]
fn small_output_that_was_never_flushed_goes_inline_and_makes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let spools = SpoolDir::open(dir.path(), u64::MAX, 0).unwrap();
    let spool = spools.create(&key("a"), u64::MAX);
    assert!(!spool.append(Stream::Stdout, b"one"));
    spool.append(Stream::Stdout, b" two");
    spool.append(Stream::Stderr, b"err");
    let done = spool.finish();
    let chunk =
        |stream, offset, data: &'static [u8]| OutputChunk { stream, offset, data: data.into() };
    assert_eq!(
        done.inline,
        [chunk(Stream::Stdout, 0, b"one two"), chunk(Stream::Stderr, 7, b"err")]
    );
    assert_eq!(done.summary.stdout_sha256, sha256(b"one two"));
    assert_eq!(done.summary.stderr_bytes, 3);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_secret_that_is_cut_in_two_is_in_no_file_and_no_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let spools = SpoolDir::open(dir.path(), u64::MAX, 0).unwrap();
    let secret = cortex_agent_core::policy::Secret(b"hunter2-hunter2".to_vec());
    let mask = Mask::new([&secret]).unwrap().unwrap();
    for flushed in [false, true] {
        let spool = spools.create(&key(if flushed { "b" } else { "a" }), u64::MAX);
        spool.mask(&mask);
        spool.append(Stream::Stdout, b"a hunter2");
        spool.append(Stream::Stderr, b"err hunter");
        if flushed {
            spool.flush();
        }
        spool.append(Stream::Stdout, b"-hunter2 b");
        let done = spool.finish();
        // What travels inside the outcome is in no file.
        let mut found: Vec<(Stream, Vec<u8>)> =
            if done.inline.is_empty() { all(&spool, 64) } else { Vec::new() };
        found.extend(done.inline.iter().map(|chunk| (chunk.stream, chunk.data.to_vec())));
        let of = |wanted: Stream| -> Vec<u8> {
            let found = found.iter().filter(|(stream, _)| *stream == wanted);
            found.flat_map(|(_, data)| data.clone()).collect()
        };
        assert_eq!(of(Stream::Stdout), b"a *** b");
        assert_eq!(of(Stream::Stderr), b"err hunter");
        assert_eq!(done.summary.stdout_sha256, sha256(b"a *** b"));
    }
}

#[test]
fn large_output_is_read_back_in_order_at_any_offset() {
    let dir = tempfile::tempdir().unwrap();
    let spools = SpoolDir::open(dir.path(), u64::MAX, 0).unwrap();
    let spool = spools.create(&key("a"), u64::MAX);
    let mut expected = Vec::new();
    for n in 0..40_u32 {
        let data: Vec<u8> = (0..30_000 + n * 7).map(|byte| (byte % 251) as u8).collect();
        let stream = if n % 3 == 0 { Stream::Stderr } else { Stream::Stdout };
        if spool.append(stream, &data) {
            spool.flush();
        }
        expected.push((stream, data));
    }
    let done = spool.finish();
    assert!(done.inline.is_empty());
    spool.sync().unwrap();
    let flat = |parts: &[(Stream, Vec<u8>)], stream| -> Vec<u8> {
        parts.iter().filter(|part| part.0 == stream).flat_map(|part| part.1.clone()).collect()
    };
    let whole = |parts: &[(Stream, Vec<u8>)]| -> Vec<u8> {
        parts.iter().flat_map(|part| part.1.clone()).collect()
    };
    for max in [999, 65_536] {
        assert_eq!(whole(&all(&spool, max)), whole(&expected));
    }
    for stream in [Stream::Stdout, Stream::Stderr] {
        assert_eq!(flat(&all(&spool, 65_536), stream), flat(&expected, stream));
    }
    assert_eq!(done.summary.stdout_sha256, sha256(&flat(&expected, Stream::Stdout)));
    for offset in [1_200_000, 5, 600_001, 0, 29_999] {
        let chunk = spool.read(offset, 10).unwrap().unwrap();
        assert_eq!(chunk.data, whole(&expected)[offset as usize..][..chunk.data.len()]);
    }
    assert_eq!(spool.read(spool.end(), 10).unwrap(), None);
    spool.remove();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn of_output_beyond_the_limit_the_beginning_and_the_end_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let spools = SpoolDir::open(dir.path(), u64::MAX, 0).unwrap();
    let spool = spools.create(&key("a"), 12);
    spool.append(Stream::Stdout, b"1234567");
    spool.append(Stream::Stderr, b"abcdef");
    spool.append(Stream::Stdout, b"89");
    spool.append(Stream::Stdout, b"");
    let done = spool.finish();
    // Nine bytes of the beginning, three of the end.
    let summary = &done.summary;
    assert_eq!((summary.stdout_bytes, summary.stderr_bytes), (9, 3));
    assert_eq!((summary.dropped_bytes, summary.gap_stdout, summary.gap_stderr), (3, 7, 2));
    assert_eq!(summary.stdout_sha256, sha256(b"123456789"));
    assert_eq!(summary.stderr_sha256, sha256(b"abf"));
    let whole: Vec<u8> = done.inline.iter().flat_map(|chunk| chunk.data.to_vec()).collect();
    assert_eq!(whole, b"1234567abf89");
    // As much as the limit is kept whole, also what was held back meanwhile.
    let spool = spools.create(&key("b"), 12);
    spool.append(Stream::Stdout, b"123456789ab");
    spool.append(Stream::Stdout, b"c");
    let done = spool.finish();
    let summary = &done.summary;
    assert_eq!((summary.stdout_bytes, summary.dropped_bytes, summary.gap_stdout), (12, 0, 0));
    assert_eq!(summary.stdout_sha256, sha256(b"123456789abc"));
}

#[test]
fn whatever_is_written_what_is_kept_and_what_is_missing_add_up_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let spools = SpoolDir::open(dir.path(), u64::MAX, 0).unwrap();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..60 {
        let limit = random.u64(0..400_000);
        let spool = spools.create(&key(&format!("r{round}")), limit);
        let (mut written, mut total) = (Vec::new(), random.usize(0..1_200_000));
        while total > 0 {
            let size = random.usize(1..=total.min(150_000));
            total -= size;
            let data: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(size).collect();
            let stream = if random.bool() { Stream::Stdout } else { Stream::Stderr };
            if spool.append(stream, &data) && random.bool() {
                spool.flush();
            }
            written.extend(data.into_iter().map(|byte| (stream, byte)));
        }
        let done = spool.finish();
        let kept: Vec<(Stream, u8)> = match done.inline.is_empty() {
            true => all(&spool, 65_536),
            false => done.inline.iter().map(|c| (c.stream, c.data.to_vec())).collect(),
        }
        .into_iter()
        .flat_map(|(stream, data)| data.into_iter().map(move |byte| (stream, byte)))
        .collect();
        let summary = done.summary;
        assert_eq!(kept.len() as u64, limit.min(written.len() as u64), "seed {seed}");
        let missing = (written.len() - kept.len()) as u64;
        assert_eq!(summary.dropped_bytes, missing, "seed {seed}");
        let gap = if missing > 0 {
            (summary.gap_stdout + summary.gap_stderr) as usize
        } else {
            kept.len()
        };
        assert!(missing == 0 || gap as u64 == limit - limit / 4, "seed {seed}");
        assert_eq!(kept[..gap], written[..gap], "seed {seed}");
        assert_eq!(kept[gap..], written[written.len() - (kept.len() - gap)..], "seed {seed}");
        let before = kept[..gap].iter().filter(|(stream, _)| *stream == Stream::Stdout).count();
        assert!(missing == 0 || summary.gap_stdout == before as u64, "seed {seed}");
        spool.remove();
    }
}

#[test]
fn a_full_quota_keeps_nothing_more_until_spools_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let spools = SpoolDir::open(dir.path(), 100, 0).unwrap();
    let first = spools.create(&key("a"), u64::MAX);
    first.append(Stream::Stdout, &[1; 90]);
    first.flush();
    assert!(spools.is_full());
    let second = spools.create(&key("b"), u64::MAX);
    second.append(Stream::Stdout, b"x");
    assert_eq!(second.finish().summary.dropped_bytes, 1);
    first.remove();
    assert!(!spools.is_full());
}

#[test]
fn spools_survive_a_restart_and_a_torn_end_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let spools = SpoolDir::open(dir.path(), u64::MAX, 0).unwrap();
    let spool = spools.create(&key("a"), u64::MAX);
    for part in [&b"first"[..], b"second", b"third"] {
        spool.append(Stream::Stdout, part);
        spool.flush();
    }
    let path = spool.path.clone();
    let good = std::fs::read(&path).unwrap();
    let third = good.len() - b"third".len() - frame::HEADER;
    let reopen = || {
        let spools = SpoolDir::open(dir.path(), u64::MAX, 0).unwrap();
        let mut found = spools.recover().unwrap();
        assert_eq!(found.len(), 1);
        let (found_key, spool) = found.remove(0);
        assert_eq!(found_key, key("a"));
        spool
    };
    assert_eq!(all(&reopen(), 100), [(Stream::Stdout, b"firstsecondthird".to_vec())]);
    for cut in third..good.len() {
        std::fs::write(&path, &good[..cut]).unwrap();
        let spool = reopen();
        assert_eq!(all(&spool, 100), [(Stream::Stdout, b"firstsecond".to_vec())], "cut at {cut}");
        assert_eq!(spool.summary().stdout_sha256, sha256(b"firstsecond"));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), third as u64);
    }
    // Blocks that were never written read as zeros.
    std::fs::write(&path, &good).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0; 3], good.len() as u64 - 3).unwrap();
    let spool = reopen();
    assert_eq!(spool.end(), 11);
    spool.append(Stream::Stderr, b"more");
    assert_eq!(spool.flush(), 15);
    assert_eq!(all(&reopen(), 100)[1], (Stream::Stderr, b"more".to_vec()));
}

#[test]
fn the_last_of_the_disk_is_left_to_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    // No disk has as much to leave.
    let spools = SpoolDir::open(dir.path(), u64::MAX, u64::MAX).unwrap();
    let spool = spools.create(&key("a"), u64::MAX);
    spool.append(Stream::Stdout, &[7; 70_000]);
    assert_eq!(spool.flush(), 0);
    let done = spool.finish();
    assert_eq!((done.summary.stdout_bytes, done.summary.dropped_bytes), (0, 70_000));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
