//! Hexadecimal digits, without a formatter and without the heap.

/// Appends two lowercase digits for each byte.
pub(crate) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    const CHUNK: usize = 32;
    out.reserve(2 * bytes.len());
    for chunk in bytes.chunks(CHUNK) {
        let mut digits = [0; 2 * CHUNK];
        for (pair, &byte) in digits.chunks_exact_mut(2).zip(chunk) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
        }
        out.extend_from_slice(digits.get(..2 * chunk.len()).unwrap_or_default());
    }
}

/// The digit of a number below 16.
const fn digit(nibble: u8) -> u8 {
    nibble + if nibble < 10 { b'0' } else { b'a' - 10 }
}

/// The number of a digit of either case.
pub(crate) const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The digits behind `0x`, if that is there.
pub(crate) fn digits(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text)
}

/// A number of 1 to 16 digits.
pub(crate) fn number(text: &str) -> Option<u64> {
    let digits = digits(text).as_bytes();
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0, |value, &digit| Some((value << 4) | u64::from(nibble(digit)?)))
}

/// A number of at least one digit, of which those behind the eighth are cut off, as other servers do.
pub(crate) fn short_number(text: &str) -> Option<u32> {
    let text = digits(text);
    number(text.get(..8).unwrap_or(text)).and_then(|value| u32::try_from(value).ok())
}

/// The bytes of an even number of digits.
pub(crate) fn bytes(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|&[high, low]| Some((nibble(high)? << 4) | nibble(low)?)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn writes_as_a_formatter_would(bytes: Vec<u8>) {
            let mut out = Vec::new();
            put(&mut out, &bytes);
            let naive: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(super::bytes(&naive), Some(bytes.clone()));
            prop_assert_eq!(super::bytes(&naive.to_uppercase()), Some(bytes));
            prop_assert_eq!(out, naive.into_bytes());
        }

        #[test]
        fn reads_what_a_formatter_writes(value: u64, upper: bool, prefix: bool) {
            let digits = if upper { format!("{value:X}") } else { format!("{value:x}") };
            let text = if prefix { format!("0x{digits}") } else { digits };
            prop_assert_eq!(number(&text), Some(value));
        }
    }

    #[test]
    fn numbers_at_the_edges() {
        for bad in ["", "0x", "g", "-1", "+1", "1 2", "00000000000000001", "é"] {
            assert_eq!(number(bad), None, "{bad}");
        }
        assert_eq!(short_number("123456789a"), Some(0x1234_5678));
        assert_eq!(short_number("0xff"), Some(0xff));
        assert_eq!(short_number("1234567é"), None);
        for bad in ["0", "0x00", "zz", "é"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
