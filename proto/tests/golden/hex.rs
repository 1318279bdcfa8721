//! Bytes as text that a diff can show: 32 bytes on a line.

pub(crate) fn encode(bytes: &[u8]) -> String {
    let line = |chunk: &[u8]| chunk.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n";
    bytes.chunks(32).map(line).collect()
}

/// `None` when it is not hex.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.split_whitespace().collect();
    let pairs = (0..digits.len()).step_by(2).map(|at| digits.get(at..at + 2));
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

#[test]
fn hex_survives_the_round_trip_and_refuses_other_text() {
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(decode(&encode(&bytes)), Some(bytes));
    assert_eq!(decode("0"), None);
    assert_eq!(decode("zz"), None);
}
