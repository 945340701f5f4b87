//! A gzip bomb: a true record behind any number of blanks, which compress to a thousandth.
//!
//! Blanks before a JSON value are allowed (RFC 8259 §2), so a reader that decodes without a bound gets a sound
//! record, and has spent the memory. Making one costs little: a single deflate block is repeated (RFC 1951).

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress};

/// What one repetition decodes to, in bytes.
const CHUNK: usize = 1 << 20;

/// `blanks` bytes of spaces, rounded up to a MiB, and then `record`, as one gzip member (RFC 1952).
pub(super) fn gzip_bomb(blanks: u64, record: &[u8]) -> Bytes {
    let spaces = vec![b' '; CHUNK];
    // A full flush ends on a byte's edge and forgets what came before, so the block may stand anywhere, and often.
    let block = deflate(&spaces, FlushCompress::Full);
    let (mut sum, mut one) = (Crc::new(), Crc::new());
    one.update(&spaces);

    let mut bomb = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    for _ in 0..blanks.div_ceil(CHUNK as u64) {
        bomb.extend_from_slice(&block);
        sum.combine(&one);
    }
    let mut tail = Crc::new();
    tail.update(record);
    sum.combine(&tail);
    bomb.extend_from_slice(&deflate(record, FlushCompress::Finish));
    bomb.extend_from_slice(&sum.sum().to_le_bytes());
    bomb.extend_from_slice(&sum.amount().to_le_bytes());
    bomb.into()
}

fn deflate(input: &[u8], flush: FlushCompress) -> Vec<u8> {
    let mut compress = Compress::new(Compression::best(), false);
    // More than deflate can need (it falls back to stored blocks), so that one call does it.
    let mut output = Vec::with_capacity(input.len() + input.len() / 64 + 1_024);
    // Fails only after a misuse that is not made here; an empty block would show as a broken gzip.
    let _ = compress.compress_vec(input, &mut output, flush);
    output
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn a_bomb_is_one_sound_gzip_member_a_thousand_times_smaller_than_its_content() {
        let record = br#"{"_id":"1234567890abcdef"}"#;
        let bomb = gzip_bomb(3 * CHUNK as u64, record);
        assert!(bomb.len() < 3 * CHUNK / 500, "{}", bomb.len());
        let mut decoded = Vec::new();
        GzDecoder::new(&bomb[..]).read_to_end(&mut decoded).expect("sound");
        assert_eq!(decoded.len(), 3 * CHUNK + record.len());
        assert!(decoded.ends_with(record));
    }
}
