//! Files of output: round trip, torn ends, damage.

use super::*;

fn chunk(offset: u64, size: usize) -> OutputChunk {
    let data = (0..size).map(|i| (offset as usize + i) as u8).collect::<Vec<u8>>();
    OutputChunk { stream: 1 + (offset % 2) as u8, offset, data: data.into() }
}

fn written(path: &Path, sizes: &[usize]) -> FrameFile {
    let mut file = FrameFile::create(path).unwrap();
    for size in sizes {
        let next = chunk(file.end, *size);
        file.append(&[next]).unwrap();
    }
    file
}

fn bytes(chunks: &[OutputChunk]) -> Vec<u8> {
    chunks.iter().flat_map(|c| c.data.to_vec()).collect()
}

#[test]
fn a_frame_has_the_bytes_of_the_golden_file() {
    let data = Bytes::from_static(b"hello\n");
    let mut out = MAGIC.to_vec();
    encode_frame(&OutputChunk { stream: 2, offset: 300, data }, &mut out);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/log/v1/output.hex");
    let golden: String = std::fs::read_to_string(path).unwrap().split_whitespace().collect();
    let hex: String = out.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, golden);
}

#[test]
fn what_was_written_is_read_from_any_offset() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let sizes: Vec<usize> = (0..200).map(|i| 1 + i * 331 % 65_000).collect();
    let file = written(&path, &sizes);
    let all = bytes(&file.reader(0).read(0, file.end, usize::MAX).unwrap());
    assert_eq!(all.len() as u64, file.end);
    let reopened = FrameFile::open(&path).unwrap().unwrap();
    assert_eq!(reopened.end, file.end);
    for from in [1, 1000, 1_100_000, file.end / 2, file.end - 1] {
        for f in [&file, &reopened] {
            let got = f.reader(from).read(from, f.end, usize::MAX).unwrap();
            assert_eq!(got[0].offset, from);
            assert_eq!(bytes(&got), all[from as usize..]);
        }
    }
    let some = file.reader(0).read(0, file.end, 10).unwrap();
    assert!(bytes(&some).len() >= 10 && some.len() < sizes.len());
}

#[test]
fn a_torn_end_is_cut_off_at_every_length() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let file = written(&path, &[10, 20]);
    let (full, second) = (file.len, file.len - frame_len(&Head { len: 20, stream: 1, offset: 10 }));
    for cut in second..full {
        written(&path, &[10, 20]).file.set_len(cut).unwrap();
        let mut again = FrameFile::open(&path).unwrap().unwrap();
        assert_eq!(again.end, 10, "cut at {cut}");
        again.append(&[chunk(10, 5)]).unwrap();
        assert_eq!(FrameFile::open(&path).unwrap().unwrap().end, 15);
    }
}

#[test]
fn a_page_that_never_reached_the_disk_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let file = written(&path, &[10, 20]);
    file.file.write_all_at(&[0; 12], file.len - 12).unwrap();
    assert_eq!(FrameFile::open(&path).unwrap().unwrap().end, 10);
}

#[test]
fn a_file_without_a_durable_header_counts_as_absent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    for content in [&b""[..], &b"cxo"[..], &[0; 30][..]] {
        std::fs::write(&path, content).unwrap();
        assert!(FrameFile::open(&path).unwrap().is_none());
    }
    std::fs::write(&path, b"something else").unwrap();
    assert!(matches!(FrameFile::open(&path), Err(LogError::Corrupt(_))));
}

#[test]
fn damage_is_reported_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let file = written(&path, &[1000, 20]);
    file.file.write_all_at(&[0xff], 500).unwrap();
    let got = file.reader(0).read(0, file.end, usize::MAX);
    assert!(matches!(got, Err(LogError::Corrupt(_))), "{got:?}");
}
