//! Bytes of a connection, cut into lines.

/// Cuts what arrives into lines, which may come in pieces or many at once; holds no memory while no line is in flight.
#[derive(Debug)]
pub struct LineReader {
    bytes: Vec<u8>,
    /// Where the next line starts.
    start: usize,
    /// Up to where no line end was found.
    searched: usize,
    limit: usize,
}

/// A line that is longer than its limit; the connection is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line has more than {limit} bytes, which no SV1 message needs")]
pub struct LineTooLong {
    /// The most bytes that a line may have.
    pub limit: usize,
}

impl LineReader {
    /// Reads lines of at most `limit` bytes, without the line end.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, searched: 0, limit }
    }

    /// Takes bytes that have arrived. They are kept until [`Self::next_line`] has given them out, so call that until it gives nothing.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.searched = self.searched.saturating_sub(self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole line, without the line end and without space and zero bytes around it; empty ones are skipped.
    ///
    /// # Errors
    ///
    /// The machine is at fault if the line is too long, whether it has ended or not. Every further call says so again.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, LineTooLong> {
        let too_long = LineTooLong { limit: self.limit };
        loop {
            let unsearched = self.bytes.get(self.searched..).unwrap_or_default();
            let Some(length) = unsearched.iter().position(|&byte| byte == b'\n') else {
                self.searched = self.bytes.len();
                if self.bytes.len() - self.start > self.limit + 1 {
                    return Err(too_long);
                }
                if self.start == self.bytes.len() {
                    *self = Self::new(self.limit);
                }
                return Ok(None);
            };
            let (start, end) = (self.start, self.searched + length);
            let line = self.bytes.get(start..end).unwrap_or_default();
            if line.strip_suffix(b"\r").unwrap_or(line).len() > self.limit {
                return Err(too_long);
            }
            (self.start, self.searched) = (end + 1, end + 1);
            let blank = |byte: &u8| *byte == 0 || byte.is_ascii_whitespace();
            if let Some(first) = line.iter().position(|byte| !blank(byte)) {
                let last = line.iter().rposition(|byte| !blank(byte)).unwrap_or(first);
                return Ok(self.bytes.get(start + first..=start + last));
            }
        }
    }

    /// Bytes of memory that are held.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All lines of a stream that arrives in pieces.
    fn lines(pieces: &[&[u8]], limit: usize) -> Result<Vec<Vec<u8>>, LineTooLong> {
        let (mut reader, mut found) = (LineReader::new(limit), Vec::new());
        for piece in pieces {
            reader.push(piece);
            while let Some(line) = reader.next_line()? {
                found.push(line.to_vec());
            }
        }
        Ok(found)
    }

    #[test]
    fn lines_end_in_either_way_and_come_in_pieces() {
        let found = lines(&[b"one\r\n\n \r\ntwo\nth", b"ree", b"\n\0four\0\n"], 10).unwrap();
        assert_eq!(found, [&b"one"[..], b"two", b"three", b"four"]);
    }

    #[test]
    fn a_line_may_be_as_long_as_its_limit() {
        assert_eq!(lines(&[b"1234\r\n1234\n"], 4).unwrap().len(), 2);
        assert_eq!(lines(&[b"12345\n"], 4), Err(LineTooLong { limit: 4 }));
        assert_eq!(lines(&[b"1234", b"5"], 4).unwrap().len(), 0);
        assert_eq!(lines(&[b"1234", b"56"], 4), Err(LineTooLong { limit: 4 }));
        let mut reader = LineReader::new(4);
        reader.push(b"12345\nok\n");
        assert!(reader.next_line().is_err());
        assert!(reader.next_line().is_err(), "a stream that is out of step stays so");
    }

    #[test]
    fn memory_is_held_only_while_a_line_is_in_flight() {
        let mut reader = LineReader::new(1000);
        reader.push(b"first\nsecond");
        assert_eq!(reader.next_line(), Ok(Some(&b"first"[..])));
        assert_eq!(reader.next_line(), Ok(None));
        assert!(reader.held() > 0);
        reader.push(b"\n");
        assert_eq!(reader.next_line(), Ok(Some(&b"second"[..])));
        assert_eq!(reader.next_line(), Ok(None));
        assert_eq!(reader.held(), 0);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(stream in "[ab\r\n ]{0,60}", cuts in prop::collection::vec(0_usize..60, 0..6)) {
            let stream = stream.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.sort_unstable();
            let ends = cuts.iter().copied().chain([stream.len()]);
            let pieces: Vec<_> = [0].into_iter().chain(cuts.iter().copied()).zip(ends).map(|(a, b)| &stream[a..b]).collect();
            let naive: Vec<Vec<u8>> = match stream.iter().rposition(|&byte| byte == b'\n') {
                Some(end) => stream[..end].split(|&byte| byte == b'\n').map(|line| line.trim_ascii().to_vec()).filter(|line| !line.is_empty()).collect(),
                None => Vec::new(),
            };
            prop_assert_eq!(lines(&pieces, 100), Ok(naive));
        }
    }
}
